"""What a learner is: it proposes masks for an episode's players, and learns from what they scored.

A learner sees plans and outcomes. What is adapted, fine-tuned and scored, and where, is none of its affair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor

from nmg.policies.base import Policy
from nmg.seeding import StreamName
from nmg.types import Episode, MaskPlan, Outcome, StateEncoder, TokenBlocks

Tensors: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class Saved:
    """Everything that a learner needs to go on."""

    files: Mapping[str, Tensors] = field(default_factory=dict)
    """name → tensors, written anew with every checkpoint"""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """what JSON can hold"""
    lasting: Mapping[str, Callable[[], Tensors]] = field(default_factory=dict)
    """name → tensors that never change under this name: written once, kept while they are named"""


class Learner(Protocol):
    @property
    def policy(self) -> Policy:
        """What it would hand out."""
        ...

    @property
    def leader(self) -> str | None:
        """The player whose adapted LM starts the next episode where adaptation is continual; None: there is none."""
        ...

    @property
    def players(self) -> int:
        """The most that an episode has."""
        ...

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan]:
        """A plan for each player, by name. `blocks` are those of the episode, `encode` the LM that it starts from."""
        ...

    def learn(self, episode: Episode, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        """Learn from the outcome of each proposed plan; returns what the log should say, as JSON has it."""
        ...

    def save(self) -> Saved: ...

    def restore(self, saved: Saved) -> None:
        """Become what `save` saved. Raises KeyError where something is missing."""
        ...


@dataclass(frozen=True)
class Ground:
    """What a learner may build on."""

    new_policy: Callable[[], Policy]
    """on the CPU; weights are as its modules were made (see `Policy.reset_parameters`)"""
    rate: float
    """share of tokens to mask"""
    score: Callable[[Outcome], float]
    """the score that players are compared by, more being better"""
    randomness: StreamName
    device: torch.device


class LearnerKind(Protocol):
    """The settings of a kind of learner, told apart by their field `kind`."""

    has_leader: ClassVar[bool]
    """whether its episodes have a leader (see `Learner.leader`)"""

    def build(self, ground: Ground) -> Learner: ...
