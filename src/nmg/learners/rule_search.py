"""Rule search: tune the exponent of the idf rule, as a baseline for learned policies.

The rule is tuned on the same score and with the same number of inner loops as a learned policy. It is not part of the
paper. Each episode runs every exponent with the same sampling noise. The search returns the exponent with the best mean
score, as a linear policy over word pieces. Exponent 0 gives random masks.
"""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from nmg.base.section import Count, NonNegative, Section
from nmg.base.trial import TrialResult
from nmg.base.types import Episode, MaskPlan, StateEncoder, TokenBlocks
from nmg.learners.base import LearnerCapabilities, LearnerContext, LearnerDefaults, LearnerState
from nmg.policies.base import Policy
from nmg.policies.linear import LinearPolicy
from nmg.policies.sampling import draw_by


class RuleSearchSettings(Section):
    """Settings of rule search."""

    kind: Literal["rule-search"] = "rule-search"
    budget: Count = 200
    """Number of inner loops of the whole run."""
    exponents: tuple[NonNegative, ...] = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)
    """Exponents to compare: a token's weight is idf ** exponent."""

    has_leader: ClassVar = False
    needs_linear: ClassVar = True
    learns_words: ClassVar = True


class RuleSearch(LearnerDefaults):
    """A learner that selects the best exponent of the idf rule."""

    def __init__(self, settings: RuleSearchSettings, ground: LearnerContext) -> None:
        self.settings, self.ground = settings, ground
        policy = ground.new_policy()
        assert isinstance(policy, LinearPolicy), "the settings require a linear policy"
        self._template = policy.to(ground.device)
        self.episodes = 0
        self.scores: list[list[float]] = []
        """Scores [episodes][exponents]; episodes in which a player's training diverged are left out."""

    @property
    def is_finished(self) -> bool:  # type: ignore[override]
        """Whether the budget is used up."""
        return self.episodes >= self._max_episodes

    @property
    def capabilities(self) -> LearnerCapabilities:  # type: ignore[override]
        """The capabilities: one player per exponent, and all remaining episodes are independent."""
        return LearnerCapabilities(
            max_players=len(self.settings.exponents),
            max_independent_episodes=max(self._max_episodes - self.episodes, 1),
            max_episodes=self._max_episodes,
        )

    @property
    def _max_episodes(self) -> int:
        return self.settings.budget // len(self.settings.exponents)

    @property
    def policy(self) -> Policy:
        """The idf rule with the best mean score so far; the first exponent wins ties."""
        means = np.mean(self.scores, axis=0) if self.scores else np.zeros(len(self.settings.exponents))
        return self._rule(self.settings.exponents[int(np.argmax(means))])

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan]:
        """Sample a plan for each exponent, with shared noise.

        Args:
            episode: The episode to run.
            blocks: The token blocks of the episode.
            encode: The LM that the policy may observe.

        Returns:
            Player name → plan.
        """
        observation, plans = self._template.observe(blocks, encode), {}
        for exponent in self.settings.exponents:
            noise = (self.ground.randomness / "episode" / episode.index / "actions").generator()
            rule = self._rule(exponent)
            plans[f"idf-{exponent:g}"] = draw_by(rule, observation, blocks, self.ground.rate, noise)
        return plans

    def learn(self, episode: Episode, outcomes: Mapping[str, TrialResult]) -> dict[str, Any]:  # noqa: ARG002
        """Record the scores of an episode.

        Exponents are compared within an episode. If a player's training diverges, the episode uses up budget but adds
        no scores.
        """
        self.episodes += 1
        if len(outcomes) < len(self.settings.exponents):
            return {}
        self.scores.append([self.ground.score(outcome) for outcome in outcomes.values()])
        return {"best": list(outcomes)[int(np.argmax(self.scores[-1]))]}

    def findings(self) -> dict[str, Any]:
        """Return the number of complete episodes and the mean score of each exponent."""
        names = [f"{exponent:g}" for exponent in self.settings.exponents]
        means = np.mean(self.scores, axis=0).tolist() if self.scores else []
        return {"episodes": len(self.scores), "mean_score": dict(zip(names, means, strict=False))}

    def save(self) -> LearnerState:
        """Return all scores and the number of episodes."""
        return LearnerState(facts={"scores": self.scores, "episodes": self.episodes})

    def restore(self, saved: LearnerState) -> None:
        """Restore the scores and the number of episodes."""
        self.scores = [list(row) for row in saved.facts["scores"]]
        self.episodes = saved.facts["episodes"]

    def _rule(self, exponent: float) -> LinearPolicy:
        policy = copy.deepcopy(self._template)
        policy.set_slopes({"idf": exponent})
        return policy
