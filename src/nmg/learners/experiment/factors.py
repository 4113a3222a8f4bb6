"""Factors of the recipe that an experiment varies together with the masks.

Each factor has a coded level: 0 is the configured value, −1 and 1 are the ends of its range. The two players of a pair
have different levels, drawn from −1, 0 and 1. So the pairs show the slope and the curvature of the score
(`nmg.learners.experiment.response`), and they still show the effects of the masks. A factor with two values has the
levels 0 and 1, and no curvature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from nmg.base.trial_recipe import TrialRecipe
from nmg.base.types import FloatArray

FactorName: TypeAlias = Literal["learning-rate", "steps", "rate", "unit"]
"""Names of the factors."""
PAIRS_OF_LEVELS = np.array([(a, b) for a in (-1.0, 0.0, 1.0) for b in (-1.0, 0.0, 1.0) if a != b])
"""float64 [6, 2]: the levels that the two players of a pair may have."""


@dataclass(frozen=True)
class Factor:
    """A setting of the recipe: a number on a logarithmic scale, or one of two values."""

    field: str
    """Name of the setting in `TrialRecipe`."""
    ratio: float = 1.0
    """Ratio of the value at level 1 to the configured value."""
    values: tuple[str, ...] = ()
    """The two values; empty for a number."""

    @property
    def lowest(self) -> float:
        """The lowest level: −1, or 0 with two values."""
        return 0.0 if self.values else -1.0

    def value(self, configured: TrialRecipe, level: float) -> Any:
        """Return the value at a level between −1 and 1. Of two values, a level above 0 is the one not configured."""
        now = getattr(configured, self.field)
        if self.values:
            return next(value for value in self.values if (value != now) == (level > 0))
        return float(f"{now * self.ratio**level:.6g}")


FACTORS: Mapping[FactorName, Factor] = {
    "learning-rate": Factor("learning_rate", 2.0),
    "steps": Factor("steps_factor", 1.5),
    "rate": Factor("rate", 1.5),
    "unit": Factor("unit", values=("token", "word")),
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


def draw_levels(names: Sequence[FactorName], rng: np.random.Generator) -> FloatArray:
    """Draw the levels of the two players of a pair, float64 [2, K]; a factor never has the same level in both."""
    pairs = [PAIRS_OF_LEVELS[(FACTORS[name].lowest <= PAIRS_OF_LEVELS).all(axis=1)] for name in names]
    return np.array([rng.choice(of_factor) for of_factor in pairs]).T


def terms(names: Sequence[FactorName], levels: FloatArray) -> FloatArray:
    """Return the levels [K] and their squares, float64 [2K]; the squares of a factor with two values are 0."""
    is_curved = np.array([not FACTORS[name].values for name in names], dtype=np.float64)
    return np.concatenate([levels, is_curved * np.square(levels)])
