"""Rewards of one episode: pure functions that compare players and assign credit to their actions.

A player is compared with each of the two others. An action is credited with the comparisons against the players that
did not take it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from nmg.base.types import MaskPlan


def sign_reward(learner: float, other: float) -> float:
    """Return sign(learner - other): 1.0, 0.0 or -1.0 (arXiv 2010.02705, section 3.4).

    Higher scores must be better. Raises ValueError if a score is NaN.
    """
    if math.isnan(learner) or math.isnan(other):
        raise ValueError(f"cannot compare the scores {learner} and {other}")
    return float(learner > other) - float(learner < other)


WINDOW = 100
"""Number of recent differences that determine the scale of rewards. An episode adds two if the opponent is a policy."""
DEVIATIONS = 1.4826
"""Ratio of the standard deviation of a normal distribution with mean 0 to the median of its absolute values."""


@dataclass
class ScoreNoise:
    """Robust estimate of the usual difference between two players' scores."""

    recent: list[float] = field(default_factory=list)
    """The last `WINDOW` nonzero differences, oldest first."""

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "ScoreNoise":
        """Return the estimate that `asdict` saved."""
        return cls(list(facts["recent"]))

    def observe(self, difference: float) -> None:
        """Record a difference. Ties are ignored, because they carry no information about the size of differences."""
        if difference:
            self.recent = [*self.recent[-WINDOW + 1 :], difference]

    @property
    def scale(self) -> float:
        """Standard deviation, estimated from the median absolute difference; 0 before the first nonzero difference.

        One outlier shifts the median by at most one rank and is forgotten after `WINDOW` further differences.
        """
        return DEVIATIONS * median(map(abs, self.recent)) if self.recent else 0.0


def difference_reward(learner: float, other: float, noise: ScoreNoise, clip: float) -> float:
    """Return (learner - other) / noise.scale, clipped to ±clip. This reward is not part of the paper.

    The scale includes both sampling noise and training noise. The standard error over validation examples would ignore
    training noise, which is usually many times larger. Call `noise.observe` with the difference first, so that the
    scale is 0 only if all differences are 0.

    Args:
        learner: Score of the learner; higher is better.
        other: Score of the other player.
        noise: Estimate of the usual difference.
        clip: Maximum absolute reward.

    Returns:
        The reward, a number without unit.

    Raises:
        ValueError: If a score is NaN.
    """
    if math.isnan(learner) or math.isnan(other):
        raise ValueError(f"cannot compare the scores {learner} and {other}")
    if learner == other:
        return 0.0
    return max(-clip, min(clip, (learner - other) / noise.scale))


def credit(
    own: MaskPlan, rival: MaskPlan, random: MaskPlan, r_rival: float, r_random: float, n_tokens: int
) -> tuple[Tensor, Tensor]:
    """Assign a reward to each action of `own`, depending on which other players also took it.

        rival  random   reward
        no     no       min(r_rival, r_random)
        no     yes      r_rival
        yes    no       r_random
        yes    yes      not stored

    For the opponent, pass its plan as `own`, the learner's plan as `rival`, and rewards from the opponent's side.

    Args:
        own: Plan whose actions are credited, with positions [B, K].
        rival: Plan of the rival for the same blocks; its K may differ.
        random: Plan of the random player for the same blocks; its K may differ.
        r_rival: Reward of the owner of `own` against the rival.
        r_random: Reward of the owner of `own` against the random player.
        n_tokens: T of the blocks.

    Returns:
        `reward`, float32 [B, K], and `is_stored`, bool [B, K]. `is_stored` is False at padding and for actions that all
        three players took; their reward is 0.
    """
    in_rival, in_random = _is_taken_by(rival, own, n_tokens), _is_taken_by(random, own, n_tokens)
    is_stored = own.is_chosen & ~(in_rival & in_random)
    reward = torch.full(in_rival.shape, min(r_rival, r_random), dtype=torch.float32, device=in_rival.device)
    reward = reward.masked_fill(in_random, r_rival).masked_fill(in_rival, r_random)
    return reward.masked_fill(~is_stored, 0.0), is_stored


def credit_by_case(
    own: MaskPlan, rival: MaskPlan, random: MaskPlan, reward: Tensor, n_tokens: int
) -> dict[str, dict[str, float]]:
    """Summarize the credit for the log: count and mean reward of the actions in each row of the table of `credit`.

    Args:
        own: Plan whose actions are credited, with positions [B, K].
        rival: Plan of the rival for the same blocks.
        random: Plan of the random player for the same blocks.
        reward: float32 [B, K], as from `credit`.
        n_tokens: T of the blocks.

    Returns:
        Case → `actions` (count) and `reward` (mean). The cases are `alone`, `with_random`, `with_opponent` (the
        player given as `rival`) and `with_both`. Cases without actions are left out.
    """
    in_rival, in_random = _is_taken_by(rival, own, n_tokens), _is_taken_by(random, own, n_tokens)
    cases = {
        "alone": ~in_rival & ~in_random,
        "with_random": ~in_rival & in_random,
        "with_opponent": in_rival & ~in_random,
        "with_both": in_rival & in_random,
    }
    found = {case: reward[is_case & own.is_chosen] for case, is_case in cases.items()}
    return {case: {"actions": len(r), "reward": float(r.mean())} for case, r in found.items() if len(r)}


def _is_taken_by(other: MaskPlan, own: MaskPlan, n_tokens: int) -> Tensor:
    """Return whether the other player also took each action of `own`, bool [B, K]; undefined at padding."""
    return other.is_masked(n_tokens).gather(1, own.positions.clamp(min=0))
