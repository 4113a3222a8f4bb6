"""Policies in folders and on the hub: saved, loaded and pushed under the method names of Hugging Face.

A folder holds config.json, model.safetensors and a model card. `huggingface_hub.ModelHubMixin` has methods of these
names, but writes in place: it removes config.json first, so a reader or a kill in between would find no policy.
"""

import hashlib
import json
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

from nmg.errors import UserError
from nmg.files import save_tensors, write_text
from nmg.policies.card import CARD, Provenance, model_card
from nmg.policies.hub import download_policy, is_hub_name, upload_policy

KINDS: Mapping[str, str] = {
    "attention": "nmg.policies.attention:AttentionPolicy",
    "linear": "nmg.policies.linear:LinearPolicy",
}
"""kind → class, as `module:Class`: what config.json may name"""
MODEL_TYPE = "nmg-mask-policy"
"""`model_type` in config.json"""
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class StoredPolicy(nn.Module):
    """The part of a policy that saves and loads it: a kind, a frozen record of settings, and weights."""

    kind: ClassVar[str]
    config_class: ClassVar[type[Any]]
    """a dataclass, the type of `config`"""
    acts: ClassVar[Literal["top-k", "draw"]] = "top-k"
    """how a trained policy masks, if the settings do not say"""
    config: Any

    @property
    def reads_lm(self) -> bool:
        """Whether the policy looks at the language model, not at the tokens alone."""
        return True

    @classmethod
    def from_pretrained(cls, place: Path | str, revision: str | None = None) -> Self:
        """Returns the policy of a place that `policy_folder` finds, on the CPU and in evaluation mode.

        Args:
            place: the folder of a run or of a policy, or the name of a hub repository.
            revision: of the hub repository.

        Raises:
            UserError: as `policy_folder` does, and if the files do not hold exactly the weights of such a policy.
        """
        folder = policy_folder(place, revision)
        try:
            policy = _empty(json.loads((folder / CONFIG).read_text(encoding="utf-8")), folder)
            weights = {name: _checked(tensor, name) for name, tensor in load_file(folder / WEIGHTS).items()}
            policy.load_state_dict(weights, assign=True)
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{folder}: cannot load the mask policy: {error}") from error
        if not isinstance(policy, cls):
            raise UserError(f"{folder} holds a mask policy of the kind {policy.kind!r}, not a {cls.__name__}")
        return policy.eval()

    def save_pretrained(self, folder: Path | str, known: Provenance | None = None) -> None:
        """Write the policy's folder. A file is replaced as a whole, so the folder holds a policy at any time.

        Args:
            folder: made if it is missing.
            known: what the model card says besides the policy itself.
        """
        folder = Path(folder)
        facts = {"model_type": MODEL_TYPE, "kind": self.kind, **asdict(self.config)}
        write_text(folder / CONFIG, json.dumps(facts, indent=2) + "\n")
        save_tensors(folder / WEIGHTS, self.state_dict())
        write_text(folder / CARD, model_card(self, known or Provenance.read()))

    def push_to_hub(
        self, name: str, known: Provenance | None = None, *, token: str | None = None, private: bool = False
    ) -> str:
        """Put the policy and its model card into a repository of the hub.

        Args:
            name: `OWNER/NAME`; the repository is made if it is missing.
            known: what the model card says besides the policy itself.
            token: the one that `hf auth login` has left if not given.
            private: whether a new repository is private.

        Returns:
            The address of the repository.

        Raises:
            UserError: the hub refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, known)
            return upload_policy(Path(folder), name, token=token, private=private)


def policy_class(kind: str) -> type[Any]:
    """Returns the class of a kind of policy, one of `KINDS`."""
    module, _, name = KINDS[kind].partition(":")
    found: type[Any] = getattr(import_module(module), name)
    return found


def find_policy(folder: Path) -> Path:
    """The policy folder itself, or the one inside a run's folder."""
    return folder / "policy" if (folder / "policy" / CONFIG).is_file() else folder


def policy_folder(place: Path | str, revision: str | None = None) -> Path:
    """The policy folder of a run's folder, of a policy's, or of a hub repository (`OWNER/NAME`, at `revision`).

    Raises UserError if the folder or repository is missing or does not hold the files of a policy.
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


def _empty(facts: dict[str, Any], folder: Path) -> StoredPolicy:
    """A policy of these facts whose weights are not there yet: nothing is drawn from torch's generator."""
    if facts.get("model_type") != MODEL_TYPE:
        raise UserError(f"{folder} holds a model of type {facts.get('model_type')!r}, not a mask policy")
    kind: Any = facts.get("kind")
    if kind not in KINDS:
        raise UserError(f"{folder} holds a mask policy of the kind {kind!r} (known: {', '.join(KINDS)})")
    made = policy_class(kind)
    known = made.config_class.__dataclass_fields__
    try:  # pydantic checks the fields' types, and the bounds that these name
        config = TypeAdapter(made.config_class).validate_python({n: v for n, v in facts.items() if n in known})
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"{name}: " for name in problem["loc"][:1])
        raise ValueError(f"{place}{problem['msg'].removeprefix('Value error, ')}") from error
    with torch.device("meta"):
        policy: StoredPolicy = made(config)
    return policy


def _checked(weights: Tensor, name: str) -> Tensor:
    """float32. Raises ValueError for numbers that no policy has."""
    if not weights.is_floating_point() or not bool(weights.isfinite().all()):
        raise ValueError(f"{name} contains numbers that are not finite")
    return weights.float()
