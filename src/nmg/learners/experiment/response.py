"""How the score depends on the factors of the recipe, estimated together with the effects of the masks.

    score = features · β + Σ (effect · level + curvature · level²) + noise

The effects β of the features have the prior of `nmg.learners.experiment.regression`; those of the factors have a flat
one. Interactions of factors are left out. Tuning therefore also tries a recipe half-way to the best one: if two factors
replace each other, such as learning rate and steps, moving both all the way goes too far.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from nmg.base.types import FloatArray
from nmg.learners.experiment.factors import FACTORS, FactorName
from nmg.learners.experiment.regression import Effects


@dataclass(frozen=True)
class Response:
    """How the score depends on K factors, estimated by least squares after the effects of the masks."""

    effect: FloatArray
    """float64 [K]: slope of the score at the configured value, per level."""
    curvature: FloatArray
    """float64 [K]: coefficient of the squared level; below 0 if the score has a maximum."""
    half_width: FloatArray
    """float64 [K]: half-width of the 95 % interval of `effect`; infinite with too few rows."""

    def best_levels(self, names: Sequence[FactorName]) -> FloatArray:
        """Return the level of the highest score of each of the K factors, float64 [K], within its range."""
        lowest = [FACTORS[name].lowest for name in names]
        return np.array([_best(*one) for one in zip(self.effect, self.curvature, lowest, strict=True)])

    def to_json(self, names: Sequence[FactorName]) -> list[dict[str, Any]]:
        """Return the effect of each factor with its 95 % interval (None if it is unknown), and its curvature."""
        bounded = [width if np.isfinite(width) else None for width in self.half_width.tolist()]
        rows = zip(names, self.effect.tolist(), self.curvature.tolist(), bounded, strict=True)
        return [
            {
                "factor": name,
                "effect": effect,
                "low": None if width is None else effect - width,
                "high": None if width is None else effect + width,
                "curvature": curvature,
            }
            for name, effect, curvature, width in rows
        ]


def _best(effect: float, curvature: float, low: float) -> float:
    """Return the level from `low` to 1 at which effect · level + curvature · level² is highest; 0 if all are equal."""
    inner = [-effect / (2 * curvature)] if curvature < 0 else []
    levels = [0.0, low, 1.0, *(min(max(level, low), 1.0) for level in inner)]
    return max(levels, key=lambda level: effect * level + curvature * level**2)


def without_factors(z: FloatArray, *columns: FloatArray) -> tuple[FloatArray, ...]:
    """Return the part of rows that the terms of the factors do not explain.

    The rows are rotated to the complement of the columns of z. So independent noise stays independent, and a regression
    on the returned rows gives the effects of the masks that a joint regression gives (Frisch and Waugh 1933).

    Args:
        z: float64 [n, 2K], contrasts of the terms of the factors.
        columns: float64 arrays [n, …].

    Returns:
        float64 [n − rank(z), …] for each of `columns`; the unchanged arrays without factors or rows.
    """
    if not z.size:
        return columns
    u, _, _ = np.linalg.svd(z, full_matrices=True)
    rest = u[:, int(np.linalg.matrix_rank(z)) :].T
    return tuple(rest @ column for column in columns)


def response(z: FloatArray, x: FloatArray, y: FloatArray, effects: Effects) -> Response:
    """Estimate how the score depends on the factors, given the effects of the masks.

    Args:
        z: float64 [n, 2K], contrasts of the terms of the factors.
        x: float64 [n, F], contrasts of the mean features of the masked tokens.
        y: float64 [n], contrasts of the scores.
        effects: Effects of the masks and the noise, estimated from the rows without factors.

    Returns:
        The response. All effects are 0 without rows.
    """
    n, n_terms = z.shape
    k, free = n_terms // 2, n - n_terms
    inverse = np.linalg.pinv(z)
    coefficients = inverse @ (y - x @ effects.mean)
    half_width = np.full(n_terms, np.inf)
    if free > 0:
        through_masks = inverse @ x
        covariance = effects.noise**2 * inverse @ inverse.T + through_masks @ effects.covariance @ through_masks.T
        half_width = stats.t.ppf(0.975, free) * np.sqrt(np.diag(covariance))
    return Response(coefficients[:k], coefficients[k:], half_width[:k])
