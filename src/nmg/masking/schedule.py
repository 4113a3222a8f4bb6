"""How the masking rate moves while a model trains: constant, linear, cosine.

From 30 % to 15 % in a straight line is what Ankner et al. (2023, arXiv 2305.15096) found best; the cosine is that of
learning rates (Loshchilov and Hutter, arXiv 1608.03983).
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Self, get_args

from nmg.errors import UserError, shown
from nmg.settings import MaskingSettings, RateShape


@dataclass(frozen=True)
class RateSchedule:
    """The share of tokens to mask at each step of a training, from `start` at step 0 to `end` at the last."""

    start: float
    end: float
    steps: int
    shape: RateShape = "linear"

    def __post_init__(self) -> None:
        """Raises UserError for rates, steps or a shape that do not exist."""
        for rate in (self.start, self.end):
            if not isinstance(rate, Real) or isinstance(rate, bool) or not 0.0 < float(rate) < 1.0:
                raise UserError(f"rate: must be a number between 0 and 1, not {shown(rate)}")
        if not isinstance(self.steps, Integral) or isinstance(self.steps, bool) or int(self.steps) < 1:
            raise UserError(f"steps of a RateSchedule: must be a whole number from 1 on, not {shown(self.steps)}")
        shapes = get_args(RateShape)
        if self.shape not in shapes:
            raise UserError(f"shape of a RateSchedule: must be {', '.join(shapes)}, not {shown(self.shape)}")

    @classmethod
    def of(cls, settings: MaskingSettings, steps: int) -> Self:
        return cls(settings.rate, settings.rate_end, max(steps, 1), settings.rate_schedule)

    def at(self, step: int) -> float:
        """The rate of the step with this number, from 0; behind the last one it stays what it is there."""
        done = min(step / max(self.steps - 1, 1), 1.0)
        if self.shape == "constant":
            return self.start
        if self.shape == "cosine":
            done = (1.0 - math.cos(math.pi * done)) / 2.0
        return self.start + (self.end - self.start) * done
