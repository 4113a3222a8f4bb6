"""Random search: propose n policies around the best known, move to the mean of the better half.

The simplest learner that can work: a truncation-selection evolution strategy without adaptation of its step (Beyer and
Schwefel 2002). Ours. All candidates of an episode draw under the same noise, so they differ in their weights alone.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from nmg.learners.base import Ground, LearnerCapabilities, NothingToTell, Saved
from nmg.learners.search import candidate_name, first_policy, propose_candidates, weights_of
from nmg.settings import Count, Positive, Section
from nmg.types import Episode, MaskPlan, Outcome, StateEncoder, TokenBlocks


class RandomSearchSettings(Section):
    kind: Literal["random-search"] = "random-search"
    candidates: Count = 6
    """policies an episode"""
    spread: Positive = 1.0
    """standard deviation of their weights around the mean"""

    has_leader: ClassVar = False
    needs_linear: ClassVar = False
    learns_words: ClassVar = True


class RandomSearch(NothingToTell):
    def __init__(self, settings: RandomSearchSettings, ground: Ground) -> None:
        self.settings, self.ground = settings, ground
        self.capabilities = LearnerCapabilities(max_players=settings.candidates)
        self.policy = first_policy(ground)

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan]:
        candidates = self._candidates(episode)
        return propose_candidates(self.policy, candidates, self.ground, episode, blocks, encode)

    @torch.no_grad()
    def learn(self, episode: Episode, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        best = sorted(outcomes, key=lambda name: -self.ground.score(outcomes[name]))[: (len(outcomes) + 1) // 2]
        if not best:
            return {}
        before, candidates = weights_of(self.policy), self._candidates(episode)
        mean = torch.stack([candidates[name] for name in best]).mean(dim=0)
        vector_to_parameters(mean, self.policy.parameters())
        return {"best": best[0], "step": float((mean - before).norm())}

    def save(self) -> Saved:
        return Saved({"policy": self.policy.state_dict()})

    def restore(self, saved: Saved) -> None:
        self.policy.load_state_dict(saved.files["policy"])

    def _candidates(self, episode: Episode) -> dict[str, Tensor]:
        """name → weights; follow from the mean and the episode's number alone."""
        mean = weights_of(self.policy)
        rng = (self.ground.randomness / "episode" / episode.index / "candidates").generator()
        noise = torch.from_numpy(rng.standard_normal((self.settings.candidates, len(mean)))).to(mean)
        return {candidate_name(n): mean + self.settings.spread * one for n, one in enumerate(noise)}
