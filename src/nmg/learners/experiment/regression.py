"""Bayesian ridge regression of scores on features of the masked tokens, without intercept.

    y = x · β + noise,   β ~ N(0, τ² I),   noise ~ N(0, s²)

Here y is the difference of two players' scores. x is the difference of the mean features of their masked tokens, so
x = 0 gives y = 0. The ratio τ / s and s are integrated out with their marginal likelihood; both have a uniform prior on
a log scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

from nmg.base.types import FloatArray

RATIOS = np.geomspace(1e-2, 10.0, 31)
"""Grid of prior ratios: variance explained by the features in a row, divided by the noise variance.

A smaller minimum would shrink every uncertain effect to 0 and make its interval too narrow.
"""
REACH = 2.8
"""Half-width of a 95 % interval, in posterior standard deviations.

A value of 1.96 would be correct on average over the prior, but shrinkage moves large effects out of that interval. With
this value, coverage is 95 % for effects of any size (benchmarks/experiment_levels.py).
"""
DRAWS = 2000
"""Number of Monte Carlo draws for the limit of the gain."""
PERFECT = 1e-20
"""Ratio of residual to explained sum of squares below which the residual is rounding error."""
LARGE = 1000.0
"""Value above which the root of a noncentral χ² is approximately normal, with an error of 0.1 %."""


@dataclass(frozen=True)
class Effects:
    """Posterior of the effects of F features, estimated from n rows."""

    mean: FloatArray
    """float64 [F]: change of the score if the feature's mean over the masked tokens rises by one standard deviation."""
    covariance: FloatArray
    """float64 [F, F]: posterior covariance of the effects."""
    noise: float
    """Standard deviation of the noise of a row, in units of the score."""
    n: int
    """Number of rows."""
    f: float | None
    """F statistic of "no feature matters"; None with too few rows."""
    f_p: float | None
    """p-value of the F statistic; None with too few rows."""

    @property
    def deviation(self) -> FloatArray:
        """float64 [F]: posterior standard deviations."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def length(self) -> float:
        """Euclidean norm of the mean effects."""
        return float(np.linalg.norm(self.mean))

    def direction(self) -> FloatArray:
        """Return the unit vector, float64 [F], along which the score rises fastest; zeros if all mean effects are 0."""
        unit: FloatArray = self.mean / self.length if self.length > 0 else np.zeros_like(self.mean)
        return unit

    def to_json(self, features: Sequence[str]) -> dict[str, Any]:
        """Return JSON values: the F test and each feature's effect with its 95 % interval."""
        rows = zip(features, self.mean, self.deviation, strict=True)
        return {
            "pairs": self.n,
            "noise": self.noise,
            "f": self.f,
            "f_p": self.f_p,
            "features": [
                {"feature": name, "effect": float(m), "low": float(m - REACH * d), "high": float(m + REACH * d)}
                for name, m, d in rows
            ],
        }


def regress(x: FloatArray, y: FloatArray) -> Effects:
    """Estimate the effects from x [n, F] and y [n]. If all of x or all of y is 0, all effects are 0."""
    n, n_features = x.shape
    if not np.any(x) or not np.any(y):
        unknown = 0.0 if np.any(x) else 1.0  # if the scores never differ, features have no effect
        return Effects(np.zeros(n_features), unknown * np.eye(n_features), 0.0, n, None, None)
    scale = float(np.square(x).sum(axis=1).mean())
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    along, total = u.T @ y, float(y @ y)
    evidence, means, covariances, noises = [], [], [], []
    for ratio in RATIOS:
        penalty = scale / ratio  # (s / τ)²
        shrunk = s**2 / (s**2 + penalty)
        left = total - float(shrunk @ along**2)
        variance = left / max(n - 2, 1)  # posterior mean of s²
        evidence.append(-n / 2 * np.log(left) - 0.5 * float(np.log1p(s**2 / penalty).sum()))
        means.append(vt.T @ (s * along / (s**2 + penalty)))
        # variance / (s² + penalty) along the axes spanned by the rows, variance / penalty orthogonal to them
        narrowed = 1 / (s**2 + penalty) - 1 / penalty
        covariances.append(variance * (np.eye(n_features) / penalty + (vt.T * narrowed) @ vt))
        noises.append(np.sqrt(variance))
    weight = np.exp(np.array(evidence) - max(evidence))
    weight /= weight.sum()
    mean = weight @ np.array(means)
    spread = [c + np.outer(m - mean, m - mean) for c, m in zip(covariances, means, strict=True)]
    covariance: FloatArray = np.tensordot(weight, np.array(spread), axes=1)
    return Effects(mean, covariance, float(weight @ noises), n, *f_test(x, y))


def f_test(x: FloatArray, y: FloatArray) -> tuple[float | None, float | None]:
    """Test "all effects are 0" against the least-squares fit of y [n] on x [n, F] (F test).

    Returns:
        The F statistic and its p-value. Both are None if n < rank + 2, if x is 0, or if the fit is exact.
    """
    n, rank = len(y), int(np.linalg.matrix_rank(x))
    if n < rank + 2 or rank == 0:
        return None, None
    fitted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    explained, left = float(fitted @ fitted), float((y - fitted) @ (y - fitted))
    if left <= 0:
        return None, None
    f = (explained / rank) / (left / (n - rank))
    return f, float(stats.f.sf(f, rank, n - rank))


def gain_limit(x: FloatArray, y: FloatArray, confidence: float, rng: np.random.Generator) -> float | None:
    """Return an upper confidence limit of the gain of the best direction of the explored length over random masks.

    Let u ~ N(0, σ² I) and x ≈ A u. The score difference of the directions +u and −u is x · β, with standard deviation
    σ‖Aβ‖. The best direction of length σ√F gains √F times as much over its opposite. Its gain over random masks, which
    are midway, is half of that. Correlated features therefore count only once.

    A posterior quantile would be too low for large effects, because the posterior shrinks them. The limit therefore
    uses the sampling distribution. The explained sum of squares is noise² · χ'² with noncentrality ‖xβ‖² / noise². The
    residual sum of squares is noise² · χ². Over directions, ‖xβ‖² is (σ‖Aβ‖)² · χ². Each Monte Carlo draw solves
    the three relations for the gain.

    Args:
        x: float64 [n, F], differences of mean features for randomly drawn directions.
        y: float64 [n], differences of scores.
        confidence: Probability that the limit holds.
        rng: Generator of the Monte Carlo draws.

    Returns:
        The limit in units of the score, or None if n < rank(x) + 2 or x is 0.
    """
    n, n_features = x.shape
    rank = int(np.linalg.matrix_rank(x))
    if rank == 0 or n < rank + 2:
        return None
    fitted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    explained, left = float(fitted @ fitted), float((y - fitted) @ (y - fitted))
    moved = np.full(DRAWS, explained)  # ‖xβ‖²
    if left > PERFECT * explained:
        variance = left / rng.chisquare(n - rank, DRAWS)
        moved = variance * _noncentrality(explained / variance, rank, rng.random(DRAWS))
    gains = np.sqrt(n_features * moved / rng.chisquare(n, DRAWS)) / 2
    return float(np.quantile(gains, confidence))


def _noncentrality(value: FloatArray, free: int, level: FloatArray) -> FloatArray:
    """Return the noncentrality λ [n] at which a χ'² variable is below `value` with probability `level`.

    The variable has `free` degrees of freedom. λ is 0 if no such value exists. Large values use a normal approximation
    of the root, because the exact search is slow.
    """
    exact = special.chndtrinc(np.minimum(value, LARGE), free, level)
    by_root = np.square(np.sqrt(value) - special.ndtri(level)) - (free - 1)
    found: FloatArray = np.where(value > LARGE, np.maximum(by_root, 0.0), np.nan_to_num(exact, nan=0.0))
    return found


def placebo_lengths(x: FloatArray, y: FloatArray, rng: np.random.Generator, n: int = 100) -> FloatArray:
    """Return the lengths of the effects that result from random signs of the score differences, as a placebo.

    Args:
        x: float64 [rows, F], differences of mean features.
        y: float64 [rows], differences of scores.
        rng: Generator of the signs.
        n: Number of random sign assignments.

    Returns:
        float64 [n], one length per sign assignment.
    """
    lengths: FloatArray = np.array([regress(x, y * rng.choice([-1.0, 1.0], len(y))).length for _ in range(n)])
    return lengths
