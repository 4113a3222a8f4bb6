"""Worlds of a comparison: the paired test, its interval, the correction, and the seeds that are said to be needed."""

import math
from collections.abc import Callable

import numpy as np

from benchmarks.levels import Claim
from nmg.base.types import FloatArray
from nmg.comparison.statistics import estimate, holm, seeds_needed, t_p_value

Rng = np.random.Generator


def _differences(rng: Rng, n: int, effect: float) -> FloatArray:
    """Of two maskings with n seeds; their deviation is 1."""
    seeds, noise = rng.standard_normal(n), rng.standard_normal((2, n)) / math.sqrt(2)
    found: FloatArray = (seeds + effect + noise[0]) - (seeds + noise[1])
    return found


def _finds(n: int, effect: float) -> Callable[[Rng], bool]:
    return lambda rng: (t_p_value(_differences(rng, n, effect)) or 1.0) < 0.05


def _holds(n: int, effect: float) -> Callable[[Rng], bool]:
    def trial(rng: Rng) -> bool:
        found = estimate(_differences(rng, n, effect))
        return found.low is not None and found.high is not None and found.low <= effect <= found.high

    return trial


def _family(n: int, maskings: int) -> Callable[[Rng], bool]:
    def trial(rng: Rng) -> bool:
        scores = rng.standard_normal((maskings, n))
        pairs = [(a, b) for a in range(maskings) for b in range(a)]
        p_values = holm([t_p_value(scores[a] - scores[b]) for a, b in pairs])
        return any(p is not None and p < 0.05 for p in p_values)

    return trial


def claims() -> list[Claim]:
    found = []
    for n in (3, 8):
        found.append(
            Claim("compare: t_p", f"{n} seeds, no difference", "p < 0.05", _finds(n, 0.0), most=0.05, worlds=40_000)
        )
        found.append(
            Claim("compare: low, high", f"{n} seeds, difference 1", "holds", _holds(n, 1.0), least=0.95, worlds=40_000)
        )
    world = "8 seeds, 6 maskings, no difference"
    found.append(Claim("compare: t_p_holm", world, "any p < 0.05", _family(8, 6), most=0.05))
    for effect in (0.5, 1.0, 2.0):
        n = seeds_needed(effect) or 0
        world = f"difference {effect:g}, {n} seeds"
        found.append(Claim("compare: seeds_needed", world, "found at p < 0.05", _finds(n, effect), least=0.8))
    return found
