"""Which features of masked tokens raise the score: Bayesian ridge regression without intercept.

    y = x · β + noise,   β ~ N(0, τ² I),   noise ~ N(0, s²)

y is the difference of two players' scores, x that of the mean features of the tokens they masked; x = 0 gives y = 0.
The ratio τ / s and s are averaged over by their marginal likelihood, both uniform on a log scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

from nmg.types import FloatArray

RATIOS = np.geomspace(1e-2, 10.0, 31)
"""variance that features explain in a row over that of its noise, before the data are seen

A smaller least ratio would call every effect that is not plain yet 0, and its intervals too narrow for one that is not.
"""
REACH = 2.8
"""posterior standard deviations of a 95 % interval: 1.96 would do on average over the prior, but shrinkage pulls large
effects out of it; so it holds in 95 % of worlds with effects of any size (benchmarks/experiment_levels.py)"""
DRAWS = 2000
"""of the limit of a gain"""
PERFECT = 1e-20
"""share of the explained squares below which what is left is rounding error"""
LARGE = 1000.0
"""from which the root of a noncentral χ² is normal, to one in a thousand"""


@dataclass(frozen=True)
class Effects:
    """F features, n rows."""

    mean: FloatArray
    """[F] effect of a feature: change of the score per standard deviation that the masked tokens' mean is higher"""
    covariance: FloatArray
    """[F, F] of the posterior"""
    noise: float
    """standard deviation of a row's noise"""
    n: int
    f: float | None
    """F statistic of "no feature matters"; None with too few rows"""
    f_p: float | None

    @property
    def deviation(self) -> FloatArray:
        """[F] standard deviation of the posterior"""
        return np.sqrt(np.diag(self.covariance))

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.mean))

    def direction(self) -> FloatArray:
        """[F] unit vector: where the score rises fastest; zeros where nothing is known."""
        unit: FloatArray = self.mean / self.length if self.length > 0 else np.zeros_like(self.mean)
        return unit

    def to_json(self, features: Sequence[str]) -> dict[str, Any]:
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
    """Effects from x [n, F] and y [n]; zeros where there is nothing to learn from."""
    n, n_features = x.shape
    if not np.any(x) or not np.any(y):
        unknown = 0.0 if np.any(x) else 1.0  # scores that never differ say that features do nothing
        return Effects(np.zeros(n_features), unknown * np.eye(n_features), 0.0, n, None, None)
    scale = float(np.square(x).sum(axis=1).mean())
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    along, total = u.T @ y, float(y @ y)
    evidence, means, covariances, noises = [], [], [], []
    for ratio in RATIOS:
        penalty = scale / ratio  # (s / τ)²
        shrunk = s**2 / (s**2 + penalty)
        left = total - float(shrunk @ along**2)
        variance = left / max(n - 2, 1)  # mean of s² a posteriori
        evidence.append(-n / 2 * np.log(left) - 0.5 * float(np.log1p(s**2 / penalty).sum()))
        means.append(vt.T @ (s * along / (s**2 + penalty)))
        # variance / (s² + penalty) along the axes that rows reach, variance / penalty across them
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
    """F statistic and p of "all effects are 0" against least squares; None without two rows more than features."""
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
    """The gain over random masks that the best direction of the explored length does not exceed, with this confidence.

    With directions u ~ N(0, σ² I) and x ≈ A u, the score of +u over that of −u is x · β, of deviation σ‖Aβ‖. The best
    of the directions of length σ√F gains √F times as much, and half of that over random masks, which are midway.
    Correlated features are not counted twice.

    A posterior shrinks effects, so its quantile is exceeded too often if effects are large. This limit is of the
    sampling distribution: what least squares explains is noise² · χ'², of noncentrality ‖xβ‖² / noise²; the residual
    squares are noise² · χ²; and ‖xβ‖² is (σ‖Aβ‖)² · χ² over directions. Each draw solves all three.

    Args:
        x: [n, F] differences of mean features of directions that chance drew.
        y: [n] differences of scores.
        confidence: share of experiments in which the limit holds.
        rng: of the draws.

    Returns:
        The limit, in units of the score; None with fewer than two rows more than x has rank.
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
    """[n] λ at which a noncentral χ² on `free` degrees of freedom is below `value` with probability `level`; 0 if none.

    Of large values the root is normal, and the exact search slow.
    """
    exact = special.chndtrinc(np.minimum(value, LARGE), free, level)
    by_root = np.square(np.sqrt(value) - special.ndtri(level)) - (free - 1)
    found: FloatArray = np.where(value > LARGE, np.maximum(by_root, 0.0), np.nan_to_num(exact, nan=0.0))
    return found


def placebo_lengths(x: FloatArray, y: FloatArray, rng: np.random.Generator, n: int = 100) -> FloatArray:
    """[n] lengths of the effects that the same plays would have shown had their signs been chance."""
    lengths: FloatArray = np.array([regress(x, y * rng.choice([-1.0, 1.0], len(y))).length for _ in range(n)])
    return lengths
