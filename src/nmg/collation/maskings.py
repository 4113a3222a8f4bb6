"""Conversion of the `masking` argument of a collator (name, folder, weights, function, …) into a masking."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from torch import Tensor

from nmg.base.errors import UserError
from nmg.base.types import TokenBlocks
from nmg.data.framing import vocabulary_size
from nmg.masking.base import Masking, MaskingContext, Rule
from nmg.masking.mixture import Mixture, parse_mixture
from nmg.masking.names import LEARNED
from nmg.masking.registry import RULES, build_rule
from nmg.masking.weights import WeightsOfBatch, draw_by_function, read_weights, weigh
from nmg.policies.base import Policy
from nmg.policies.maskings import policy_place
from nmg.policies.registry import load_policy
from nmg.policies.sampling import PolicyMasking

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AnyMasking: TypeAlias = "str | os.PathLike[str] | Masking | Policy | Mapping[str, float] | WeightsOfBatch"
"""A name, a folder, a masking, a policy, a mapping of words to weights, or a function that returns weights [B, T]."""
_WEIGHTS = (".json", ".tsv", ".csv", ".txt")
"""Suffixes of weight files."""


def resolve_masking(masking: AnyMasking, ingredients: MaskingContext, model: "PreTrainedModel | None") -> Masking:
    """Convert any accepted specification into a masking.

    Args:
        masking: the specification.
        ingredients: inputs from which a rule can be built.
        model: the language model, for policies that read it; None if not available.

    Returns:
        The masking.

    Raises:
        UserError: If the name is unknown, the type is invalid, or an input of the masking is missing.
    """
    if isinstance(masking, Mapping):
        return Rule("weights", weigh(masking, ingredients))
    if isinstance(masking, Policy):
        return _of_policy(masking, LEARNED, ingredients, model)
    if isinstance(masking, str | os.PathLike):
        return _by_name(os.fspath(masking), ingredients, model)
    if hasattr(masking, "plan") and not isinstance(masking, type):
        return cast(Masking, masking)
    if callable(masking) and not isinstance(masking, type):
        return Rule(getattr(masking, "__name__", "function"), partial(draw_by_function, weights_of=masking))
    kind = f"the class {masking.__name__}" if isinstance(masking, type) else f"a {type(masking).__name__}"
    raise UserError(f"masking: must be a name, a folder, weights, a function or a masking, not {kind}")


def _by_name(name: str, ingredients: MaskingContext, model: "PreTrainedModel | None") -> Masking:
    """Return the rule, mixture, file of weights or policy with this name."""
    if name in RULES:
        return build_rule(name, ingredients)
    path = Path(name).expanduser()
    if not path.exists():
        members = parse_mixture(name)
        if members:
            return Mixture(name, [(share, _by_name(one, ingredients, model)) for share, one in members])
    if path.suffix in _WEIGHTS and not path.is_dir():
        return Rule("weights", weigh(read_weights(path), ingredients))
    return _of_policy(load_policy(policy_place(name)), name, ingredients, model)


def _of_policy(policy: Policy, name: str, ingredients: MaskingContext, model: "PreTrainedModel | None") -> Masking:
    """Return the masking of a policy.

    Args:
        policy: The policy.
        name: Name of the masking.
        ingredients: Provides the tokenizer.
        model: The language model; None if not available.

    Returns:
        The masking, which selects as the policy does by default (`acts`).

    Raises:
        UserError: If the policy does not fit the model or the tokenizer, or reads a model that is not available.
    """
    if policy.reads_lm and model is None:
        raise UserError(f"the policy '{name}' reads the language model: pass it to the collator (model=…)")
    hidden_size = int(model.config.hidden_size) if model is not None else 0
    policy.check_fits(hidden_size, vocabulary_size(ingredients.tokenizer))
    return PolicyMasking(policy, greedy=policy.acts == "greedy", name=name)


@dataclass(frozen=True)
class NoModel:
    """A `StateEncoder` for collators without a language model. Every call raises UserError."""

    masking: str
    """Name of the masking, for the error message."""

    def __call__(self, blocks: TokenBlocks) -> Tensor:  # noqa: ARG002
        """Raise UserError."""
        raise self._error()

    def surprise(self, blocks: TokenBlocks) -> Tensor:  # noqa: ARG002
        """Raise UserError."""
        raise self._error()

    def _error(self) -> UserError:
        """Return the error that says which masking needs a language model."""
        return UserError(f"the masking '{self.masking}' reads the language model: pass it to the collator (model=…)")
