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


@dataclass(frozen=True)
class LearnerCapabilities:
    """What the outer loop may do with a learner. Only speed depends on it, but for `leader`."""

    max_players: int
    """the most players of an episode"""
    leader: str | None = None
    """the player whose adapted LM starts the next episode if adaptation is continual"""
    max_independent_episodes: int = 1
    """number of upcoming episodes, ≥ 1, whose proposals do not depend on results still outstanding"""
    off_policy: bool = False
    """whether it can learn from masks that were proposed before it learned from the episodes just before"""
    max_episodes: int | None = None
    """episodes after which it is finished at the latest; None if it continues as long as it may"""


class Learner(Protocol):
    """Chooses masks and learns from their scores.

        while not learner.is_finished:
            plans = learner.propose(episode, blocks, encode)
            learner.learn(episode, outcomes_of(plans))
        learner.policy

    A new learner takes `NothingToTell` as a base, sets `capabilities`, and defines `policy`, `propose`, `learn`, `save`
    and `restore`.
    """

    @property
    def policy(self) -> Policy:
        """The policy to use so far."""
        ...

    @property
    def capabilities(self) -> LearnerCapabilities:
        """As they are now: they may change as it learns."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether it has learned all that it will, and the run may end."""
        ...

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan]:
        """Returns a plan for each player, by name.

        Args:
            episode: to be played.
            blocks: those of the episode.
            encode: the LM that the episode starts from.
        """
        ...

    def learn(self, episode: Episode, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        """Learn from the outcomes of the proposed plans; returns what the log should say, as JSON has it.

        A player whose training diverged has no outcome.
        """
        ...

    def save(self) -> Saved: ...

    def restore(self, saved: Saved) -> None:
        """Become what `save` saved. Raises KeyError if something is missing."""
        ...

    def forecast(self, episodes: int) -> Outlook:
        """Returns what a run of at most `episodes` episodes will need, by what the first ones have shown."""
        ...

    def findings(self) -> dict[str, Any]:
        """What was found, for people, as JSON has it: RUN/effects.json. Empty if there is nothing to tell."""
        ...

    def extra_policies(self) -> Mapping[str, Policy]:
        """Policies to keep besides `policy`: name of a folder → policy."""
        ...


class NothingToTell:
    """Defaults for learners that run until `meta.episodes` and report nothing extra."""

    capabilities: LearnerCapabilities
    is_finished = False

    def forecast(self, episodes: int) -> Outlook:
        most = self.capabilities.max_episodes
        return Outlook([self.capabilities.max_players] * (episodes if most is None else min(episodes, most)))

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
    """The settings of a kind of learner, which its field `kind` names."""

    has_leader: ClassVar[bool]
    """whether its episodes have a leader (see `LearnerCapabilities.leader`)"""
    needs_linear: ClassVar[bool]
    """whether it learns the weights of features, idf among them"""
    learns_words: ClassVar[bool]
    """whether its players may take whole words (`policy.unit`)"""
