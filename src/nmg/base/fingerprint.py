"""Computes digests of models. Equal content gives equal digests, independent of the path of the model."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

_PROVENANCE = {"transformers_version", "dtype", "torch_dtype"}
"""Configuration fields that describe how a model was saved. Fields that begin with `_` are left out as well."""


def state_digest(state: "Mapping[str, Tensor]", without: Collection[str] = ()) -> str:
    """Return 16 hex digits of the names and values of all weights except those named in `without`."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        if name not in without:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def model_digest(state: "Mapping[str, Tensor]", config: "PretrainedConfig", without: Collection[str] = ()) -> str:
    """Return 16 hex digits of a model's weights and configuration.

    Args:
        state: weight name → tensor.
        config: the model's transformers configuration. Fields that describe how it was saved are ignored.
        without: names of weights to leave out.

    Returns:
        The digest. Equal content gives equal digests.
    """
    facts: dict[str, Any] = {
        name: value for name, value in config.to_dict().items() if name not in _PROVENANCE and name[0] != "_"
    }
    described = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(f"{state_digest(state, without)} {described}".encode()).hexdigest()[:16]
