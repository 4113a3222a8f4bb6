"""What a learner is: it proposes masks for an episode's players, and learns from what they scored.

A learner sees plans and outcomes. What is adapted, fine-tuned and scored, and where, is none of its affair.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor

from nmg.masking.base import Masking
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
    """name → tensors that never change under this name: written once, kept while they are named

    Of what `restore` gets some may be missing, where files were damaged: the learner goes on without it.
    """


@dataclass(frozen=True)
class Outlook:
    """What a run will ask of the machine, if nothing ends it early."""

    players: Sequence[int]
    """of each episode"""
    held: int = 0
    """episodes whose `Saved.lasting` is held at the end, at most"""


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

    @property
    def is_finished(self) -> bool:
        """Whether it has learned all that it will, and the run may end."""
        ...

    @property
    def free_episodes(self) -> int:
        """So many of the next ones it proposes alike, whether or not it has learned from those before: at least 1."""
        ...

    @property
    def may_lag(self) -> bool:
        """Whether it can learn from episodes whose masks were proposed before it learned from those just before."""
        ...

    @property
    def most_episodes(self) -> int | None:
        """Episodes after which it is finished at the latest; None where it goes on as long as it may."""
        ...

    def outlook(self, episodes: int) -> Outlook:
        """Of a run of so many episodes, by what the first ones have shown."""
        ...

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan]:
        """A plan for each player, by name. `blocks` are those of the episode, `encode` the LM that it starts from."""
        ...

    def learn(self, episode: Episode, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        """Learn from the outcomes of the proposed plans; returns what the log should say, as JSON has it.

        A player whose training diverged has none.
        """
        ...

    def findings(self) -> dict[str, Any]:
        """What was found, for people, as JSON has it: RUN/effects.json. Empty where there is nothing to tell."""
        ...

    def extra_policies(self) -> Mapping[str, Policy]:
        """Policies to keep beside the one that is handed out: name of a folder → policy."""
        ...

    def save(self) -> Saved: ...

    def restore(self, saved: Saved) -> None:
        """Become what `save` saved. Raises KeyError where something is missing."""
        ...


class NothingToTell:
    """For a learner that goes on as long as it may, and whose log and policy say all there is."""

    players: int
    is_finished = False
    most_episodes = None
    free_episodes = 1
    may_lag = False

    def outlook(self, episodes: int) -> Outlook:
        return Outlook([self.players] * episodes)

    def findings(self) -> dict[str, Any]:
        return {}

    def extra_policies(self) -> dict[str, Policy]:
        return {}


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
    rule: Callable[[float], Masking] | None = None
    """sharpness → the rule idf by word pieces"""


class LearnerKind(Protocol):
    """The settings of a kind of learner, told apart by their field `kind`."""

    has_leader: ClassVar[bool]
    """whether its episodes have a leader (see `Learner.leader`)"""
    needs_linear: ClassVar[bool]
    """whether it learns the weights of features, idf among them"""
    learns_words: ClassVar[bool]
    """whether its players may take whole words (`policy.unit`)"""

    def build(self, ground: Ground) -> Learner: ...
