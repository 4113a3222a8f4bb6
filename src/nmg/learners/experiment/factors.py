"""Factors of the recipe that an experiment varies together with the masks.

Each factor has a coded level: 0 is the configured value, −1 and 1 are the ends of its range. The two players of a pair
have different levels, drawn from −1, 0 and 1. So the pairs show the slope and the curvature of the score
(`nmg.learners.experiment.response`), and they still show the effects of the masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from nmg.base.trial_recipe import TrialRecipe
from nmg.base.types import FloatArray

FactorName: TypeAlias = Literal["learning-rate", "steps", "rate"]
"""Names of the factors."""
PAIRS_OF_LEVELS = np.array([(a, b) for a in (-1.0, 0.0, 1.0) for b in (-1.0, 0.0, 1.0) if a != b])
"""float64 [6, 2]: the levels that the two players of a pair may have."""


@dataclass(frozen=True)
class Factor:
    """A setting of the recipe on a logarithmic scale."""

    field: str
    """Name of the setting in `TrialRecipe`."""
    ratio: float
    """Ratio of the value at level 1 to the configured value."""

    def value(self, configured: TrialRecipe, level: float) -> float:
        """Return the value at a level between −1 and 1."""
        return float(f"{getattr(configured, self.field) * self.ratio**level:.6g}")


FACTORS: Mapping[FactorName, Factor] = {
    "learning-rate": Factor("learning_rate", 2.0),
    "steps": Factor("steps_factor", 1.5),
    "rate": Factor("rate", 1.5),
}
"""Name of a factor → its setting and its range."""


def recipe_at(names: Sequence[FactorName], levels: FloatArray, configured: TrialRecipe) -> TrialRecipe | None:
    """Return the recipe at levels [K] of K factors; None if it is the configured one."""
    moved = {
        FACTORS[name].field: FACTORS[name].value(configured, float(level))
        for name, level in zip(names, levels, strict=True)
        if level
    }
    return TrialRecipe(**moved) if moved else None


def draw_levels(n_factors: int, rng: np.random.Generator) -> FloatArray:
    """Draw the levels of the two players of a pair, float64 [2, K]; a factor never has the same level in both."""
    levels: FloatArray = PAIRS_OF_LEVELS[rng.integers(len(PAIRS_OF_LEVELS), size=n_factors)].T
    return levels


def terms(levels: FloatArray) -> FloatArray:
    """Return the levels [K] and their squares, float64 [2K]."""
    return np.concatenate([levels, np.square(levels)])
