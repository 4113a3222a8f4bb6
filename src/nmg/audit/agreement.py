"""Does a reward agree with the full score? The correlation of their true scores over maskings, with limits.

Probe and fine-tunings of a play are of the same adapted LM, so they share its noise. The model of both scores:

    scores [2] = masking + seed + noise,   masking ~ N(0, Σ),   noise ~ N(0, S)

S has a covariance, too; without it the agreement of noise passes for that of maskings. The mean squares of maskings, on
m − 1 degrees of freedom, estimate S + seeds · Σ; those of the residuals, on (m − 1)(seeds − 1), estimate S.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nmg.seeding import StreamName
from nmg.types import FloatArray

DRAWS = 4000
LEVEL = 0.05
"""of each limit, one-sided, and of the F test"""


@dataclass(frozen=True)
class Agreement:
    """The correlation of the true scores; None if there is nothing to tell it by."""

    estimate: float | None
    """None unless both scores show that maskings differ (F test at 5 %): of chance it is near 1 if noise is shared"""
    low: float | None
    """the correlation is not below, with 95 % confidence"""
    high: float | None
    """the correlation is not above, with 95 % confidence"""


def agreement(reward: FloatArray, full: FloatArray) -> Agreement:
    """Compare a reward with the full score.

    The limits are quantiles of a generalised pivot (Weerahandi 1993): each draw solves Σ and S from the two observed
    matrices and from Wishart matrices, by their Cholesky factors; for a plain correlation such limits are exact.
    A draw in which a score has no variance between maskings counts as −1 for `low` and as 1 for `high`.

    Args:
        reward: scores [maskings, seeds] of the reward, more is better.
        full: scores [maskings, seeds] of the full score, of the same plays.

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
    """[draws, 2, 2] covariances that `squares` [2, 2], sums of squares on `free` degrees of freedom, may be of."""
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
    """[n] of [n, 2, 2], within ± 1; NaN if a variance is not above 0."""
    first, second = covariances[:, 0, 0], covariances[:, 1, 1]
    has_both = (first > 0) & (second > 0)
    scale = np.sqrt(np.where(has_both, first * second, 1.0))
    return np.where(has_both, np.clip(covariances[:, 0, 1] / scale, -1, 1), np.nan)
