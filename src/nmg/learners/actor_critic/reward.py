"""Rewards of one episode: how two players compare, and which action is paid for it.

Pure functions. A player is compared with each of the two others; an action earns the comparison with those players that
did not take it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from nmg.types import MaskPlan


def sign_reward(learner: float, other: float) -> float:
    """sign(learner - other): 1.0, 0.0 or -1.0 (arXiv 2010.02705, section 3.4). More must be better.

    Raises ValueError where a score is NaN.
    """
    if math.isnan(learner) or math.isnan(other):
        raise ValueError(f"cannot compare the scores {learner} and {other}")
    return float(learner > other) - float(learner < other)


WINDOW = 100
"""differences that the scale of rewards is of: those of 50 episodes with an opponent"""
DEVIATIONS = 1.4826
"""standard deviations of a normal distribution around 0 in one median of its absolute values"""


@dataclass
class ScoreNoise:
    """How far apart two players' scores usually are, whatever a few outliers are."""

    recent: list[float] = field(default_factory=list)
    """the last `WINDOW` differences that were not 0, the oldest first"""

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "ScoreNoise":
        """Returns the noise whose facts `asdict` gave."""
        return cls(list(facts["recent"]))

    def observe(self, difference: float) -> None:
        """A tie says how often scores differ, not how far."""
        if difference:
            self.recent = [*self.recent[-WINDOW + 1 :], difference]

    @property
    def scale(self) -> float:
        """A standard deviation, from the median size of the recent differences; 0 until one other than 0 was observed.

        So one outlier moves it by a rank, and is forgotten after `WINDOW` more.
        """
        return DEVIATIONS * median(map(abs, self.recent)) if self.recent else 0.0


def difference_reward(learner: float, other: float, noise: ScoreNoise, clip: float) -> float:
    """(learner - other) / scale of the noise, within ±clip. Ours; more must be better.

    The scale holds what a difference owes to sampling and to training alike. (The standard error over validation
    examples would leave training out; two training runs nearly always differ by many such errors.) The difference is to
    be observed before it is rewarded, so the scale is 0 only where every difference has been.

    Raises ValueError where a score is NaN.
    """
    if math.isnan(learner) or math.isnan(other):
        raise ValueError(f"cannot compare the scores {learner} and {other}")
    if learner == other:
        return 0.0
    return max(-clip, min(clip, (learner - other) / noise.scale))


def credit(
    own: MaskPlan, rival: MaskPlan, random: MaskPlan, r_rival: float, r_random: float, n_tokens: int
) -> tuple[Tensor, Tensor]:
    """What each action of `own` earns, from which other players took it too.

        rival  random   reward
        no     no       min(r_rival, r_random)
        no     yes      r_rival
        yes    no       r_random
        yes    yes      not stored

    For the opponent, call it with its own plan first, the learner's second, and rewards from its side.

    Args:
        own, rival, random: plans of the same blocks; their K may differ.
        r_rival, r_random: reward of the owner of `own` against each player.
        n_tokens: T of the blocks.

    Returns:
        reward: float32 [B, K], 0 where nothing is stored.
        is_stored: bool [B, K], False at padding and at actions that all three took.
    """
    in_rival, in_random = _is_taken_by(rival, own, n_tokens), _is_taken_by(random, own, n_tokens)
    is_stored = own.is_chosen & ~(in_rival & in_random)
    reward = torch.full(in_rival.shape, min(r_rival, r_random), dtype=torch.float32, device=in_rival.device)
    reward = reward.masked_fill(in_random, r_rival).masked_fill(in_rival, r_random)
    return reward.masked_fill(~is_stored, 0.0), is_stored


def credit_by_case(
    own: MaskPlan, rival: MaskPlan, random: MaskPlan, reward: Tensor, n_tokens: int
) -> dict[str, dict[str, float]]:
    """How many actions of `own` fell under each row of the table of `credit`, and their mean reward, for the log.

    Returns:
        case → `actions` and `reward`. Cases: `alone`, `with_random`, `with_opponent` (the rival), `with_both`; one
        without actions is left out.
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
    """bool [B, K]: True where the other player took the action of `own` too; anything at padding."""
    return other.is_masked(n_tokens).gather(1, own.positions.clamp(min=0))
