"""Rewards of one episode: how two players compare, and which action is paid for it.

Pure functions. A player is compared with each of the two others; an action earns the comparison with those players that
did not take it.
"""

import math

import numpy as np
import torch
from torch import Tensor

from nmg.types import FloatArray, MaskPlan


def sign_reward(learner: float, other: float) -> float:
    """sign(learner - other): 1.0, 0.0 or -1.0 (arXiv 2010.02705, section 3.4). More must be better.

    Raises ValueError where a score is NaN.
    """
    if math.isnan(learner) or math.isnan(other):
        raise ValueError(f"cannot compare the scores {learner} and {other}")
    return float(learner > other) - float(learner < other)


def difference_reward(learner: FloatArray, other: FloatArray, clip: float) -> float:
    """Mean paired difference over its standard error, within ±clip. Ours.

        r = d̄ / (s / √n),  d = learner - other,  s the standard deviation of d (n - 1 in the denominator)

    Args:
        learner, other: float [n], the players' scores of the same validation examples, in the same order; more must be
            better (a loss is to be negated).

    Where all differences are the same (one example is such a case) r is 0 if they are 0, else ±clip.
    Raises ValueError for scores that are not paired, not finite, or none.
    """
    if learner.shape != other.shape or learner.size == 0:
        raise ValueError(f"scores of {learner.shape} and {other.shape} examples cannot be paired")
    difference = np.asarray(learner, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("cannot compare scores that are not finite")
    if (difference == difference[0]).all():
        return clip * float(np.sign(difference[0]))
    standard_error = difference.std(ddof=1) / math.sqrt(difference.size)
    return float(np.clip(difference.mean() / standard_error, -clip, clip))


def credit(  # noqa: PLR0917
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
    columns = own.positions.clamp(min=0)
    in_rival = rival.is_masked(n_tokens).gather(1, columns)
    in_random = random.is_masked(n_tokens).gather(1, columns)
    is_stored = own.is_chosen & ~(in_rival & in_random)
    reward = torch.full(columns.shape, min(r_rival, r_random), dtype=torch.float32, device=columns.device)
    reward = reward.masked_fill(in_random, r_rival).masked_fill(in_rival, r_random)
    return reward.masked_fill(~is_stored, 0.0), is_stored
