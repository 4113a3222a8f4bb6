"""Random search: propose n policies around the current mean, then move to the mean of the better half.

This is the simplest useful learner: an evolution strategy with truncation selection and a fixed step size (Beyer and
Schwefel 2002). It is not part of the paper. All candidates of an episode share the sampling noise, so they differ only
in their weights.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from nmg.base.section import Count, Positive, Section
from nmg.base.trial import TrialResult
from nmg.base.types import Episode, MaskPlan, StateEncoder, TokenBlocks
from nmg.learners.base import LearnerCapabilities, LearnerContext, LearnerDefaults, LearnerState
from nmg.learners.search import candidate_name, first_policy, propose_candidates, weights_of


class RandomSearchSettings(Section):
    """Settings of random search."""

    kind: Literal["random-search"] = "random-search"
    candidates: Count = 6
    """Number of candidate policies per episode."""
    std: Positive = 1.0
    """Standard deviation of the candidates' weights around the mean."""

    has_leader: ClassVar = False
    needs_linear: ClassVar = False
    learns_words: ClassVar = True


class RandomSearch(LearnerDefaults):
    """A learner that samples candidate policies around the current one and moves to the mean of the better half."""

    def __init__(self, settings: RandomSearchSettings, ground: LearnerContext) -> None:
        self.settings, self.ground = settings, ground
        self.capabilities = LearnerCapabilities(max_players=settings.candidates)
        self.policy = first_policy(ground)

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan]:
        """Sample a plan for each candidate around the current mean.

        Args:
            episode: The episode to run.
            blocks: The token blocks of the episode.
            encode: The LM that the policy may observe.

        Returns:
            Player name → plan.
        """
        candidates = self._candidates(episode)
        return propose_candidates(self.policy, candidates, self.ground, episode, blocks, encode)

    @torch.no_grad()
    def learn(self, episode: Episode, outcomes: Mapping[str, TrialResult]) -> dict[str, Any]:
        """Move the policy to the mean of the better half of the candidates. Diverged candidates are ignored."""
        best = sorted(outcomes, key=lambda name: -self.ground.score(outcomes[name]))[: (len(outcomes) + 1) // 2]
        if not best:
            return {}
        before, candidates = weights_of(self.policy), self._candidates(episode)
        mean = torch.stack([candidates[name] for name in best]).mean(dim=0)
        vector_to_parameters(mean, self.policy.parameters())
        return {"best": best[0], "step": float((mean - before).norm())}

    def save(self) -> LearnerState:
        """Return the weights of the policy."""
        return LearnerState({"policy": self.policy.state_dict()})

    def restore(self, saved: LearnerState) -> None:
        """Restore the weights of the policy."""
        self.policy.load_state_dict(saved.files["policy"])

    def _candidates(self, episode: Episode) -> dict[str, Tensor]:
        """Return candidate name → weights [W], determined by the current mean and the episode's index."""
        mean = weights_of(self.policy)
        rng = (self.ground.randomness / "episode" / episode.index / "candidates").generator()
        noise = torch.from_numpy(rng.standard_normal((self.settings.candidates, len(mean)))).to(mean)
        return {candidate_name(n): mean + self.settings.std * one for n, one in enumerate(noise)}
