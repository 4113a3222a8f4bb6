"""Saves, loads and pushes policies, with the method names of Hugging Face.

A policy folder contains config.json, model.safetensors and a model card. `huggingface_hub.ModelHubMixin` has the same
methods, but it writes in place: it removes config.json first. If it is interrupted, there is no valid policy.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nmg.base.errors import UserError
from nmg.base.files import save_tensors, write_text
from nmg.policies.card import CARD, Provenance, model_card
from nmg.policies.hub import download_policy, is_hub_name, upload_policy

KINDS: Mapping[str, str] = {
    "attention": "nmg.policies.attention:AttentionPolicy",
    "linear": "nmg.policies.linear:LinearPolicy",
}
"""Kind → class as `module:Class`: the kinds that config.json may name."""
MODEL_TYPE = "nmg-mask-policy"
"""Value of `model_type` in config.json."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""Names of the files of a policy."""


class StoredPolicy(nn.Module):
    """Base class that saves and loads a policy: its kind, its configuration and its weights."""

    kind: ClassVar[str]
    """One of the keys of `KINDS`."""
    config_class: ClassVar[type[Any]]
    """Type of `config`: a frozen dataclass."""
    acts: ClassVar[Literal["greedy", "sample"]] = "greedy"
    """How a trained policy selects tokens by default: the highest logits, or a random sample."""
    config: Any
    """All facts that define the policy except its weights."""

    @property
    def reads_lm(self) -> bool:
        """Whether the policy reads the language model in addition to the tokens."""
        return True

    @classmethod
    def from_pretrained(cls, place: str | os.PathLike[str], revision: str | None = None) -> Self:
        """Load a policy from a folder or from the hub.

        Args:
            place: Folder of a run or of a policy, or name of a hub repository.
            revision: Revision of the hub repository.

        Returns:
            The policy, on the CPU and in evaluation mode.

        Raises:
            UserError: If there is no policy (see `policy_folder`), if its files are invalid, or if it is not an
                instance of this class.
        """
        folder = policy_folder(place, revision)
        try:
            policy = _empty(json.loads((folder / CONFIG).read_text(encoding="utf-8")), folder)
            weights = {name: _checked(tensor, name) for name, tensor in load_file(folder / WEIGHTS).items()}
            policy.load_state_dict(weights, assign=True)
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{folder}: cannot load the mask policy: {error}") from error
        if not isinstance(policy, cls):
            raise UserError(
                f"{folder} contains a mask policy of kind {policy.kind!r}, but {cls.__name__} was expected. Load it "
                "with nmg.load_policy."
            )
        return policy.eval()

    def save_pretrained(self, folder: str | os.PathLike[str], known: Provenance | None = None) -> None:
        """Save the policy and its model card to a folder. Each file is replaced atomically.

        Args:
            folder: The folder, created if it does not exist.
            known: Provenance to show in the model card.
        """
        folder = Path(folder)
        facts = {"model_type": MODEL_TYPE, "kind": self.kind, **asdict(self.config)}
        if (recipe := facts.pop("recipe")) is not None:
            facts["recipe"] = recipe.to_json()
        write_text(folder / CONFIG, json.dumps(facts, indent=2) + "\n")
        save_tensors(folder / WEIGHTS, self.state_dict())
        write_text(folder / CARD, model_card(self, known or Provenance.read()))

    def push_to_hub(
        self, name: str, known: Provenance | None = None, *, token: str | None = None, private: bool = False
    ) -> str:
        """Upload the policy and its model card to a hub repository.

        Args:
            name: `OWNER/NAME` of the repository, which is created if it does not exist.
            known: Provenance to show in the model card.
            token: Access token. The default is the one saved by `hf auth login`.
            private: Whether a new repository is private.

        Returns:
            The URL of the repository.

        Raises:
            UserError: If the upload fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, known)
            return upload_policy(Path(folder), name, token=token, private=private)


def policy_class(kind: str) -> type[Any]:
    """Return the policy class of a kind, which must be one of `KINDS`."""
    module, _, name = KINDS[kind].partition(":")
    found: type[Any] = getattr(import_module(module), name)
    return found


def find_policy(folder: Path) -> Path:
    """Return the policy folder inside a run's folder, or `folder` itself if there is none."""
    return folder / "policy" if (folder / "policy" / CONFIG).is_file() else folder


def policy_folder(place: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Return the local policy folder of a run, a policy or a hub repository (`OWNER/NAME`, at `revision`).

    Raises UserError if the folder or repository does not exist or lacks the files of a policy, or if it is a run that
    selected no adaptation.
    """
    folder = find_policy(Path(place).expanduser())
    if isinstance(place, str) and not folder.exists() and is_hub_name(place):
        folder = download_policy(place, revision)
    refuse_no_adaptation(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not the folder of a mask policy because it has no file {name}")
    return folder


def refuse_no_adaptation(folder: Path) -> None:
    """Raise UserError if `folder` is a run, or the place of its policy, and the run selected no adaptation."""
    run = folder.parent if folder.name == "policy" else folder
    if selected_by(run) == "none" and not (folder / CONFIG).is_file():
        raise UserError(
            f"{run} selected no adaptation: in its gate no masks scored better than the model as it is. Use the model "
            f"without adapting it. To try its masks nevertheless, name {run / 'learned'} or {run / 'rule'}."
        )


def selected_by(run: Path) -> str | None:
    """Return what a run selected (`policy`, `rule`, `random` or `none`), or None if it does not say."""
    try:
        selected = json.loads((run / "effects.json").read_text(encoding="utf-8")).get("selected")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return selected if isinstance(selected, str) else None


def policy_digest(place: str | os.PathLike[str]) -> str:
    """Return the digest (16 hex digits) of a policy's files. Raises UserError like `policy_folder`."""
    digest, folder = hashlib.sha256(), policy_folder(place)
    for name in (CONFIG, WEIGHTS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def _empty(facts: dict[str, Any], folder: Path) -> StoredPolicy:
    """Build a policy from config.json on the meta device, without weights and without using torch's generator."""
    if facts.get("model_type") != MODEL_TYPE:
        raise UserError(f"{folder} contains a model of type {facts.get('model_type')!r}, not a mask policy")
    kind: Any = facts.get("kind")
    if kind not in KINDS:
        raise UserError(f"{folder} contains a mask policy of the unknown kind {kind!r} (known: {', '.join(KINDS)})")
    made = policy_class(kind)
    known = made.config_class.__dataclass_fields__
    try:  # pydantic checks the types and bounds of the fields
        config = TypeAdapter(made.config_class).validate_python({n: v for n, v in facts.items() if n in known})
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"{name}: " for name in problem["loc"][:1])
        raise ValueError(f"{place}{problem['msg'].removeprefix('Value error, ')}") from error
    with torch.device("meta"):
        policy: StoredPolicy = made(config)
    return policy


def _checked(weights: Tensor, name: str) -> Tensor:
    """Return the weights as float32. Raises ValueError if they are not finite floating-point numbers."""
    if not weights.is_floating_point() or not bool(weights.isfinite().all()):
        raise ValueError(f"{name} contains non-finite values")
    return weights.float()
