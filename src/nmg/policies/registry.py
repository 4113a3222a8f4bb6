"""Policies by kind, and policies from folders."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nmg.errors import UserError
from nmg.policies.attention import AttentionSettings
from nmg.policies.base import CONFIG, MODEL_TYPE, WEIGHTS, Policy
from nmg.policies.hub import download_policy, is_hub_name
from nmg.policies.linear import LinearSettings
from nmg.settings import default_kind

PolicySettings: TypeAlias = Annotated[
    AttentionSettings  # the paper's
    | LinearSettings,  # ours
    Field(discriminator="kind"),
    default_kind("linear"),
]
"""The registry: a line per kind."""

CLASSES: dict[str, type[Policy]] = {
    settings.policy_class.kind: settings.policy_class for settings in get_args(get_args(PolicySettings)[0])
}


def find_policy(folder: Path) -> Path:
    """The policy folder itself, or the one inside a run's folder."""
    return folder / "policy" if (folder / "policy" / CONFIG).is_file() else folder


def policy_folder(place: Path | str, revision: str | None = None) -> Path:
    """The policy folder of a run's folder, of a policy's, or of a hub repository (`OWNER/NAME`, at `revision`).

    Raises UserError where the folder or repository is missing or does not hold the files of a policy.
    """
    folder = find_policy(Path(place).expanduser())
    if isinstance(place, str) and not folder.exists() and is_hub_name(place):
        folder = download_policy(place, revision)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not the folder of a mask policy: it has no file {name}")
    return folder


def policy_digest(place: Path | str) -> str:
    """16 hex digits of the files of the policy that `policy_folder` finds. Raises UserError as it does."""
    digest, folder = hashlib.sha256(), policy_folder(place)
    for name in (CONFIG, WEIGHTS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def load_policy(place: Path | str, revision: str | None = None) -> Policy:
    """The policy of a place that `policy_folder` finds, on the CPU and in evaluation mode.

    Raises UserError as `policy_folder` does, and where the files do not hold exactly the weights of a policy.
    """
    folder = policy_folder(place, revision)
    try:
        policy = _empty(json.loads((folder / CONFIG).read_text(encoding="utf-8")), folder)
        weights = {name: _checked(tensor, name) for name, tensor in load_file(folder / WEIGHTS).items()}
        policy.load_state_dict(weights, assign=True)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot load the mask policy: {error}") from error
    return policy.eval()


def _empty(facts: dict[str, Any], folder: Path) -> Policy:
    """A policy of these facts whose weights are not there yet: nothing is drawn from torch's generator."""
    if facts.get("model_type") != MODEL_TYPE:
        raise UserError(f"{folder} holds a model of type {facts.get('model_type')!r}, not a mask policy")
    kind = facts.get("kind")
    if kind not in CLASSES:
        raise UserError(f"{folder} holds a mask policy of the kind {kind!r} (known: {', '.join(CLASSES)})")
    policy_class = CLASSES[kind]
    known = policy_class.config_class.__dataclass_fields__
    try:  # pydantic checks the fields' types, and the bounds that these name
        config = TypeAdapter(policy_class.config_class).validate_python({n: v for n, v in facts.items() if n in known})
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"{name}: " for name in problem["loc"][:1])
        raise ValueError(f"{place}{problem['msg'].removeprefix('Value error, ')}") from error
    with torch.device("meta"):
        return policy_class(config)


def _checked(weights: Tensor, name: str) -> Tensor:
    """float32. Raises ValueError for numbers that no policy has."""
    if not weights.is_floating_point() or not bool(weights.isfinite().all()):
        raise ValueError(f"{name} holds what are no finite numbers")
    return weights.float()
