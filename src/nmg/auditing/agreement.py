"""Estimates how well a reward agrees with the full score: the correlation of their true scores over maskings.

The linear probe and the fine-tunings of a trial use the same adapted LM, so their noise is correlated. The statistical
model of both scores is:

    scores [2] = masking + seed + noise,   masking ~ N(0, Σ),   noise ~ N(0, S)

S includes a covariance; without it, correlated noise would count as agreement of maskings. The mean squares of
maskings, on m − 1 degrees of freedom, estimate S + seeds · Σ. Those of the residuals, on (m − 1)(seeds − 1), estimate
S.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nmg.base.seeding import StreamName
from nmg.base.types import FloatArray

DRAWS = 4000
"""Number of random draws from which the limits are computed."""
LEVEL = 0.05
"""Significance level of each one-sided limit and of the F test."""


@dataclass(frozen=True)
class Agreement:
    """Correlation between the true scores of a reward and the true full scores: estimate and limits, from −1 to 1.

    A value is None if the data cannot determine it.
    """

    estimate: float | None
    """The correlation; None unless both scores show that maskings differ (F test at 5 %).

    Without such differences, correlated noise alone would give a value near 1.
    """
    low: float | None
    """Lower limit of the correlation, with 95 % confidence, one-sided."""
    high: float | None
    """Upper limit of the correlation, with 95 % confidence, one-sided."""


def agreement(reward: FloatArray, full: FloatArray) -> Agreement:
    """Compare a reward with the full score.

    The limits are quantiles of a generalized pivot (Weerahandi 1993). Each draw solves for Σ and S from the two
    observed matrices and from Wishart matrices, by their Cholesky factors. For a plain correlation such limits are
    exact. A draw in which a score has no variance between maskings counts as −1 for `low` and as 1 for `high`.

    Args:
        reward: float [maskings, seeds]: scores of the reward; higher is better.
        full: float [maskings, seeds]: full scores of the same trials; higher is better.

    Returns:
        The estimate and its limits. All are None with fewer than 3 maskings or 2 seeds.
    """
    m, k = reward.shape
    if m < 3 or k < 2:
        return Agreement(None, None, None)
    tables = np.stack([reward, full])
    means = tables.mean(axis=2, keepdims=True)
    left = (tables - means - tables.mean(axis=1, keepdims=True) + tables.mean(axis=(1, 2), keepdims=True)).reshape(
        2, -1
    )
    means = (means - means.mean(axis=1, keepdims=True)).reshape(2, -1)
    of_means, of_noise, free = k * means @ means.T, left @ left.T, (m - 1) * (k - 1)
    is_shown = np.diag(of_means) / (m - 1) > stats.f.ppf(1 - LEVEL, m - 1, free) * np.diag(of_noise) / free
    estimate = _correlation((of_means / (m - 1) - of_noise / free)[None])[0] if is_shown.all() else math.nan
    rng = (StreamName(0) / "audit" / "agreement").generator()
    drawn = _correlation(_covariances(rng, of_means, m - 1) - _covariances(rng, of_noise, free))
    if np.isnan(drawn).all():
        return Agreement(None, None, None)
    return Agreement(
        None if math.isnan(estimate) else float(estimate),
        float(np.quantile(np.nan_to_num(drawn, nan=-1.0), LEVEL)),
        float(np.quantile(np.nan_to_num(drawn, nan=1.0), 1 - LEVEL)),
    )


def _covariances(rng: np.random.Generator, squares: FloatArray, free: int) -> FloatArray:
    """Draw covariance matrices from a generalized pivot, given observed sums of squares and products.

    Args:
        rng: Source of all randomness.
        squares: float [2, 2]: the sums of squares and products.
        free: Degrees of freedom of `squares`.

    Returns:
        float [`DRAWS`, 2, 2]: the covariance matrices.
    """
    a, b = np.sqrt(rng.chisquare(free, DRAWS)), np.sqrt(rng.chisquare(max(free - 1, 1), DRAWS))
    c = rng.standard_normal(DRAWS)
    first = math.sqrt(squares[0, 0])
    shared = squares[0, 1] / first if first else 0.0
    rest = math.sqrt(max(squares[1, 1] - shared**2, 0.0))
    factor = np.zeros((DRAWS, 2, 2))  # of `squares`, times the inverse of the Wishart factor [[a, 0], [c, b]]
    factor[:, 0, 0] = first / a
    factor[:, 1, 0] = shared / a - rest * c / (a * b)
    factor[:, 1, 1] = rest / b
    drawn: FloatArray = factor @ np.swapaxes(factor, 1, 2)
    return drawn


def _correlation(covariances: FloatArray) -> FloatArray:
    """Return the correlations [n] of covariances [n, 2, 2], clipped to ± 1; NaN if a variance is not above 0."""
    first, second = covariances[:, 0, 0], covariances[:, 1, 1]
    has_both = (first > 0) & (second > 0)
    scale = np.sqrt(np.where(has_both, first * second, 1.0))
    return np.where(has_both, np.clip(covariances[:, 0, 1] / scale, -1, 1), np.nan)
