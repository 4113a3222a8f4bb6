"""Worlds of a comparison: the paired test, its interval, the correction, and the seeds that are said to be needed."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import numpy as np

from benchmarks.levels import Claim
from nmg.base.types import FloatArray
from nmg.comparison.statistics import crossed_interval, estimate, holm, seeds_needed, t_p_value

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


N_TEXTS, SHARED = 300, 1 / math.sqrt(300)
"""number of test texts; deviation between seeds at which both sources of chance weigh the same"""
SOURCES = {"seeds": (3 * SHARED, 0.0), "texts": (0.0, 1.0), "seeds and texts": (SHARED, 1.0)}
"""what the difference varies with → deviation between seeds, and between texts; that of single scores is 1"""
N_RESAMPLES = 1000


@cache
def _resamples(size: int) -> FloatArray:
    """Weights [resamples, size] of a sample drawn with replacement; all worlds share them, which saves time."""
    drawn = np.random.default_rng(size).multinomial(size, np.full(size, 1 / size), N_RESAMPLES)
    return drawn / size


def _crossed(rng: Rng, n: int, source: str) -> FloatArray:
    """Differences [seeds, texts] around 0."""
    between_seeds, between_texts = SOURCES[source]
    seeds, texts = between_seeds * rng.standard_normal((n, 1)), between_texts * rng.standard_normal(N_TEXTS)
    found: FloatArray = seeds + texts + rng.standard_normal((n, N_TEXTS))
    return found


def _holds_over_texts(n: int, source: str) -> Callable[[Rng], bool]:
    def trial(rng: Rng) -> bool:
        low, high = crossed_interval(_crossed(rng, n, source)) or (0.0, 0.0)
        return low <= 0 <= high

    return trial


def _bootstrap_holds(n: int, source: str) -> Callable[[Rng], bool]:
    """Whether the percentile interval of the pigeonhole bootstrap (Owen 2007) holds, which nmg does not use."""

    def trial(rng: Rng) -> bool:
        table = _crossed(rng, n, source)
        means = np.einsum("rt,rt->r", _resamples(n) @ table, _resamples(N_TEXTS))
        low, high = np.quantile(means, [0.025, 0.975])
        return bool(low <= 0 <= high)

    return trial


def _over_texts() -> Iterator[Claim]:
    for n, source in product((5, 12), SOURCES):
        world = f"{n} seeds, {N_TEXTS} texts, varies with {source}"
        yield Claim("compare: seeds and texts", world, "holds", _holds_over_texts(n, source), least=0.95, worlds=4000)
        yield Claim("compare: bootstrap instead", world, "holds", _bootstrap_holds(n, source), worlds=1000)


def claims() -> list[Claim]:
    found = list(_over_texts())
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
