"""Masking rates that change: schedules of one rate during training, phases, and a rate per row.

Ankner et al. (2023, arXiv 2305.15096) obtained the best results with a linear decrease from 30 % to 15 %. The cosine
shape is the one used for learning rates (Loshchilov and Hutter, arXiv 1608.03983). Two phases are those of BioClinical
ModernBERT (arXiv 2506.10896): 30 % until the learning rate decays, then 15 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Self, get_args

import numpy as np
import torch
from torch import Tensor

from nmg.base.errors import UserError, shown
from nmg.base.settings import MaskingSettings, RateShape
from nmg.base.types import TokenBlocks


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
            _check_rate(rate)
        if not _is_count(self.steps):
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
            steps: Number of training steps; 0 counts as 1.
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


@dataclass(frozen=True)
class RatePhases:
    """A constant masking rate in each of several phases of training, such as 30 %, then 15 %.

    Example:
        `RatePhases([(10_000, 0.30), (12_000, 0.15)])` masks 30 % at steps 0 to 9999 and 15 % afterwards.
    """

    phases: Sequence[tuple[int, float]]
    """Pairs of the step before which a phase ends, and its rate. The last rate also applies after the last phase."""

    def __post_init__(self) -> None:
        """Check the phases. Raises UserError for an invalid rate, or for steps that do not increase."""
        pairs = isinstance(self.phases, Sequence) and all(isinstance(p, Sequence) and len(p) == 2 for p in self.phases)
        if not pairs or not self.phases:
            raise UserError(f"RatePhases: must be pairs (until_step, rate), not {shown(self.phases)}")
        before = 0
        for until, rate in self.phases:
            _check_rate(rate)
            if not _is_count(until) or until <= before:
                raise UserError(f"RatePhases: each step must be a whole number > {before}, not {shown(until)}")
            before = until

    @property
    def steps(self) -> int:
        """Number of steps of all phases."""
        return self.phases[-1][0]

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest rate."""
        rates = [rate for _, rate in self.phases]
        return min(rates), max(rates)

    def at(self, step: int) -> float:
        """Return the rate at `step`, counted from 0."""
        return next((rate for until, rate in self.phases if step < until), self.phases[-1][1])


@dataclass(frozen=True)
class RowRates:
    """A masking rate per row, drawn uniformly between two rates."""

    low: float
    """Lowest rate, above 0."""
    high: float
    """Highest rate, below 1."""
    steps = 1
    """Number of steps: 1, because the rates do not depend on the step."""

    def __post_init__(self) -> None:
        """Check the rates. Raises UserError if one is invalid or `low` is above `high`."""
        for rate in (self.low, self.high):
            _check_rate(rate)
        if self.low > self.high:
            bounds = shown((self.low, self.high))
            raise UserError(f"rate: the lower bound must not exceed the upper bound, but the bounds are {bounds}")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest rate."""
        return self.low, self.high

    def at(self, step: int) -> float:  # noqa: ARG002 the same at each step
        """Return the mean rate."""
        return (self.low + self.high) / 2.0

    def draw(self, blocks: TokenBlocks, rng: np.random.Generator) -> "RatedBlocks":
        """Return the blocks with a rate drawn for each."""
        rates = torch.from_numpy(rng.uniform(self.low, self.high, len(blocks)))
        return RatedBlocks(**vars(blocks), rates=rates)


@dataclass(frozen=True)
class RatedBlocks(TokenBlocks):
    """Blocks that each have a masking rate. Any masking that calls `budgets` then masks each block at its rate."""

    rates: Tensor
    """float64 [B]: fraction of the maskable tokens to mask in each block."""

    def budgets(self, rate: float | Tensor) -> Tensor:  # noqa: ARG002 each block has a rate
        """Return the number of positions to mask per block, int64 [B]; `rate` is ignored."""
        return super().budgets(self.rates)


def _check_rate(rate: object) -> None:
    """Raise UserError if `rate` is not a number between 0 and 1."""
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0.0 < float(rate) < 1.0:
        raise UserError(f"rate: must be a number between 0 and 1, not {shown(rate)}")


def _is_count(value: object) -> bool:
    """Return whether `value` is a whole number ≥ 1."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
