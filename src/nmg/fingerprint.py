"""Digests of models: equal for equal content, wherever it is stored."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

_PROVENANCE = {"transformers_version", "dtype", "torch_dtype"}
"""fields of a model's configuration that say how it was stored; those that begin with _ say where it comes from"""


def state_digest(state: "Mapping[str, Tensor]", without: Collection[str] = ()) -> str:
    """16 hex digits of names and weights, those `without` left out."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        if name not in without:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def model_digest(state: "Mapping[str, Tensor]", config: "PretrainedConfig", without: Collection[str] = ()) -> str:
    """16 hex digits of a model: its weights, and what its configuration says of how they are used.

    Args:
        state: name → weights.
        config: transformers' configuration of the model.
        without: names of weights that are left out.
    """
    facts: dict[str, Any] = {
        name: value for name, value in config.to_dict().items() if name not in _PROVENANCE and name[0] != "_"
    }
    described = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(f"{state_digest(state, without)} {described}".encode()).hexdigest()[:16]
