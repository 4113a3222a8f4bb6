"""Computes the number of steps of an adaptation: as set, from the number of epochs, or from the time in minutes."""

import time
from collections.abc import Callable
from dataclasses import replace

from nmg.base.seeding import StreamName
from nmg.base.training_settings import AdaptSettings
from nmg.training.adapt import adapt
from nmg.training.batches import batches_per_epoch
from nmg.training.context import TrainingContext
from nmg.training.fit import Training
from nmg.training.lm import copy_state, restore_state
from nmg.training.masks import Masks

FIRST_STEPS = 3
"""Number of steps that warm up libraries and give a first estimate of the speed."""
MAX_STEPS = 30
"""Maximum number of steps that measure the speed."""
SHARE_OF_TIME = 0.03
"""Approximate fraction of the time that the steps that measure the speed may take."""
USED_SHARE = 0.95
"""Fraction of the time that is planned; the rest is for checkpoints and for saving the model."""
EVALUATIONS = 10
"""Number of measurements of the held-out loss after the first, unless `adapt.evaluate_every` is given."""


def steps_of(settings: AdaptSettings, masks: Masks) -> int:
    """Return the number of steps from `adapt.steps` or, if it is not set, from `adapt.epochs` and the text."""
    if settings.steps is not None:
        return settings.steps
    return settings.epochs * batches_per_epoch(settings, masks.lengths[masks.rows_of(0)])


def evaluate_every(settings: AdaptSettings, n_steps: int) -> int:
    """Return the number of steps between two measurements of the held-out loss."""
    return settings.evaluate_every or max(-(-n_steps // EVALUATIONS), 1)


def affordable_steps(
    context: TrainingContext, masks: Masks, randomness: StreamName, seconds: float, measure: Callable[[], object]
) -> int:
    """Measure the speed of a few steps, and compute how many steps fit into a number of seconds.

    The weights of the model are restored, so a run with this number of steps does not depend on the measurement.

    Args:
        context: Context with the model and the settings.
        masks: Text and masks to adapt on.
        randomness: Random stream of the steps.
        seconds: Time left for the training and for measurements of the held-out loss.
        measure: Measures the held-out loss.

    Returns:
        The number of steps.
    """
    began = time.perf_counter()
    measure()
    evaluation = time.perf_counter() - began
    weights, silent = copy_state(context.model), context.silent()
    first = _seconds_per_step(replace(silent, adapt_steps=FIRST_STEPS), masks, randomness)
    n = min(max(int(SHARE_OF_TIME * seconds / first), 1), MAX_STEPS)
    step = _seconds_per_step(replace(silent, adapt_steps=n), masks, randomness)
    restore_state(context.model, weights)
    left = USED_SHARE * seconds - (time.perf_counter() - began)
    every = context.adapt.evaluate_every
    if every is None:
        return max(int((left - (EVALUATIONS + 1) * evaluation) / step), 1)
    return max(int((left - evaluation) / (step + evaluation / every)), 1)


def _seconds_per_step(context: TrainingContext, masks: Masks, randomness: StreamName) -> float:
    """Train for `context.adapt_steps` steps and return the mean wall time of a step."""
    watch = _Stopwatch()
    adapt(context, masks, randomness, observer=watch)
    return watch.seconds / watch.steps


class _Stopwatch:
    """An `Observer` that measures the time of the steps, without the selection of masks before the first one."""

    def __init__(self) -> None:
        self.seconds, self.steps = 0.0, 1
        self._began = time.perf_counter()

    def begin(self, training: Training) -> None:  # noqa: ARG002
        """Start the clock."""
        self._began = time.perf_counter()

    def after_step(self, training: Training) -> None:
        """Stop the clock after the last step."""
        if training.is_over and training.is_sound:  # reading the losses waits for the GPU
            self.seconds, self.steps = time.perf_counter() - self._began, training.steps
