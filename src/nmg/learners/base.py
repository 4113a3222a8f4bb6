"""The learner interface: a learner proposes masks for the players of an episode and learns from their scores.

A learner sees only plans and outcomes. It does not know how or where the inner loop runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor

from nmg.base.seeding import StreamName
from nmg.base.trial import TrialResult
from nmg.base.trial_recipe import TrialRecipe
from nmg.base.types import Episode, MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import Masking
from nmg.policies.base import Policy

Tensors: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class LearnerState:
    """The state of a learner, from which a resumed run continues."""

    files: Mapping[str, Tensors] = field(default_factory=dict)
    """File name → tensors. The files are rewritten with every checkpoint."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON-serializable values."""
    immutable: Mapping[str, Callable[[], Tensors]] = field(default_factory=dict)
    """File name → function that returns immutable tensors. Each file is written once and kept while it is listed here.

    `restore` may receive fewer entries if files were damaged; the learner then continues without them.
    """


@dataclass(frozen=True)
class RunForecast:
    """Expected size of a run, assuming that nothing ends it early."""

    players: Sequence[int]
    """Number of players of each episode."""
    held: int = 0
    """Maximum number of episodes whose `LearnerState.immutable` is stored at the end."""


@dataclass(frozen=True)
class LearnerCapabilities:
    """Limits within which the outer loop may run a learner's episodes.

    `leader` and `off_policy` affect results: `off_policy` allows parallel episodes to use an older policy. The other
    fields affect only speed.
    """

    max_players: int
    """Maximum number of players per episode."""
    leader: str | None = None
    """Name of the player whose adapted LM starts the next episode if adaptation is continual."""
    max_independent_episodes: int = 1
    """Number of upcoming episodes (≥ 1) whose proposals do not depend on outstanding results."""
    off_policy: bool = False
    """Whether the learner can learn from masks proposed by an earlier version of its policy."""
    max_episodes: int | None = None
    """Maximum number of episodes before the learner finishes, or None for no limit."""


class Learner(Protocol):
    """Chooses masks and learns from their scores.

        while not learner.is_finished:
            plans = learner.propose(episode, blocks, encode)
            learner.learn(episode, outcomes_of(plans))
        learner.policy

    To write a new learner, subclass `LearnerDefaults`, set `capabilities`, and define `policy`, `propose`, `learn`,
    `save` and `restore`.
    """

    @property
    def policy(self) -> Policy:
        """The best policy so far."""
        ...

    @property
    def has_policy(self) -> bool:
        """Whether the run has a policy to return; False if no adaptation is better than any."""
        ...

    @property
    def capabilities(self) -> LearnerCapabilities:
        """The current capabilities. They may change as the learner learns."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether the learner has finished, so that the run may end."""
        ...

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> Mapping[str, MaskPlan | None]:
        """Propose the masks of each player.

        Args:
            episode: The episode to run.
            blocks: The token blocks of the episode.
            encode: The LM that the episode starts from.

        Returns:
            A mapping of each player's name to its plan, or to None if the player does not adapt the LM.
        """
        ...

    def recipes(self, episode: Episode) -> Mapping[str, TrialRecipe]:
        """Return the recipes of a proposed episode, as player → recipe; others have the configured recipe."""
        ...

    def learn(self, episode: Episode, outcomes: Mapping[str, TrialResult]) -> dict[str, Any]:
        """Learn from the outcomes of the proposed plans and return JSON-serializable values for the log.

        `outcomes` maps player names to outcomes. It has no entry for a player whose training diverged.
        """
        ...

    def save(self) -> LearnerState:
        """Return the state that `restore` needs."""
        ...

    def restore(self, saved: LearnerState) -> None:
        """Restore the state that `save` returned. Raises KeyError if an entry is missing."""
        ...

    def forecast(self, episodes: int) -> RunForecast:
        """Forecast the size of a run of at most `episodes` episodes, based on the episodes so far."""
        ...

    def findings(self) -> dict[str, Any]:
        """Return JSON-serializable findings for the user, written to RUN/effects.json; empty if there are none."""
        ...

    def extra_policies(self) -> Mapping[str, Policy]:
        """Return the policies to save in addition to `policy`, as folder name → policy."""
        ...


class LearnerDefaults:
    """Defaults for learners that run until `meta.episodes` and report nothing extra."""

    capabilities: LearnerCapabilities
    is_finished = False
    has_policy = True

    def recipes(self, episode: Episode) -> Mapping[str, TrialRecipe]:  # noqa: ARG002
        """Return no recipes: all players have the configured one."""
        return {}

    def forecast(self, episodes: int) -> RunForecast:
        """Forecast the maximum number of players for each episode, up to `max_episodes`."""
        most = self.capabilities.max_episodes
        return RunForecast([self.capabilities.max_players] * (episodes if most is None else min(episodes, most)))

    def findings(self) -> dict[str, Any]:
        """Return no findings."""
        return {}

    def extra_policies(self) -> dict[str, Policy]:
        """Return no further policies."""
        return {}


@dataclass(frozen=True)
class LearnerContext:
    """What a learner is built from: a source of policies, the masking rate, the score and random streams."""

    new_policy: Callable[[], Policy]
    """Creates a policy on the CPU with the initial weights of its modules (see `Policy.reset_parameters`)."""
    rate: float
    """Masking rate: the fraction of tokens to mask."""
    score: Callable[[TrialResult], float]
    """Returns the score by which players are compared; higher is better."""
    randomness: StreamName
    """Root of the learner's random streams."""
    device: torch.device
    rule: Callable[[float], Masking] | None = None
    """Returns the idf rule over word pieces with the given exponent; None if there is none."""
    recipe: TrialRecipe = field(default_factory=TrialRecipe)
    """The configured recipe, with every setting that a learner may vary."""


class LearnerKind(Protocol):
    """Interface of the settings class of one kind of learner; its field `kind` names the kind."""

    has_leader: ClassVar[bool]
    """Whether episodes have a leader (see `LearnerCapabilities.leader`)."""
    needs_linear: ClassVar[bool]
    """Whether the learner requires a linear policy with the feature `idf`."""
    learns_words: ClassVar[bool]
    """Whether its policy may mask whole words (`policy.unit: word`)."""
