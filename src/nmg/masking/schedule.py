"""Schedules of the masking rate during training: constant, linear, cosine, two-phase.

Ankner et al. (2023, arXiv 2305.15096) obtained the best results with a linear decrease from 30 % to 15 %. The cosine
shape is the one used for learning rates (Loshchilov and Hutter, arXiv 1608.03983). Two phases are those of BioClinical
ModernBERT (arXiv 2506.10896): 30 % until the learning rate decays, then 15 %.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Self, get_args

from nmg.base.errors import UserError, shown
from nmg.base.settings import MaskingSettings, RateShape


@dataclass(frozen=True)
class RateSchedule:
    """The fraction of tokens to mask at each training step, from `start` at step 0 to `end` at the last step."""

    start: float
    """Rate at step 0, between 0 and 1."""
    end: float
    """Rate at the last step, between 0 and 1."""
    steps: int
    """Number of training steps, ≥ 1."""
    shape: RateShape = "linear"
    decay_ratio: float = 0.2
    """Fraction of the steps that have the rate `end` if the shape is `two-phase`, above 0 and at most 1."""

    def __post_init__(self) -> None:
        """Check the fields. Raises UserError for an invalid rate, number of steps or shape."""
        for rate in (self.start, self.end):
            if not isinstance(rate, Real) or isinstance(rate, bool) or not 0.0 < float(rate) < 1.0:
                raise UserError(f"rate: must be a number between 0 and 1, not {shown(rate)}")
        if not isinstance(self.steps, Integral) or isinstance(self.steps, bool) or int(self.steps) < 1:
            raise UserError(f"RateSchedule, steps: must be a whole number ≥ 1, not {shown(self.steps)}")
        shapes = get_args(RateShape)
        if self.shape not in shapes:
            raise UserError(f"RateSchedule, shape: must be one of {', '.join(shapes)}, not {shown(self.shape)}")
        ratio = self.decay_ratio
        if not isinstance(ratio, Real) or isinstance(ratio, bool) or not 0.0 < float(ratio) <= 1.0:
            raise UserError(f"RateSchedule, decay_ratio: must be above 0 and at most 1, not {shown(ratio)}")

    @classmethod
    def of(cls, settings: MaskingSettings, steps: int, decay_ratio: float = 0.2) -> Self:
        """Return the schedule that settings describe.

        Args:
            settings: Rates and shape.
            steps: Number of steps of the training; 0 counts as 1.
            decay_ratio: Fraction of the steps in the second of two phases.

        Returns:
            The schedule.
        """
        return cls(settings.rate, settings.rate_end, max(steps, 1), settings.rate_schedule, decay_ratio)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest rate."""
        rates = self.start, self.start if self.shape == "constant" else self.end
        return min(rates), max(rates)

    def at(self, step: int) -> float:
        """Return the rate at `step`, counted from 0. After the last step the rate stays constant."""
        done = min(step / max(self.steps - 1, 1), 1.0)
        if self.shape == "constant":
            return self.start
        if self.shape == "two-phase":
            return self.start if step < self.steps - math.ceil(self.decay_ratio * self.steps) else self.end
        if self.shape == "cosine":
            done = (1.0 - math.cos(math.pi * done)) / 2.0
        return self.start + (self.end - self.start) * done
