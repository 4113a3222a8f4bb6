"""The training loop that LM adaptation, LM head warm-up and task fine-tuning share."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_linear_schedule_with_warmup

from nmg.base.distributed import as_one
from nmg.base.errors import Diverged
from nmg.base.progress import Progress
from nmg.base.seeding import StreamName
from nmg.base.settings import OptimiserSettings
from nmg.base.types import IntArray
from nmg.training.accumulation import Accumulation, BatchLoss
from nmg.training.fast.weights import Fp32Weights, training_weights
from nmg.training.runtime import Runtime

POOL_BATCHES = 32
"""Number of batches sorted by length together: enough to reduce padding, few enough to keep epochs well mixed."""
LOOK_EVERY = 20
"""Steps between two checks for finite losses, which also release cached memory. A check waits for the GPU."""


@dataclass(frozen=True)
class FitResult:
    """Result of a training."""

    steps: int
    """Number of optimiser steps."""
    loss: float
    """Mean loss over the last epoch; NaN if there was no step."""
    seconds: float
    """Wall time of the training, in seconds."""


@dataclass
class KeepBest:
    """Early stopping: measures a loss during training, stops if it no longer falls, and restores the best weights."""

    loss: Callable[[], float]
    """Returns the loss of the current model in evaluation mode and leaves the model unchanged."""
    every: int
    """Steps between two measurements. The loss is also measured before the first step and after the last."""
    patience: int
    """Number of consecutive measurements without a new best after which training stops."""
    best: float = math.inf
    """Lowest loss so far."""
    _kept: list[Tensor] = field(default_factory=list)
    """Copy of the best weights."""
    _in_vain: int = 0
    """Number of consecutive measurements without a new best."""

    def after(self, step: int, last: int, weights: Sequence[Tensor], runtime: Runtime) -> bool:
        """Measure the loss if it is due, and copy the weights if they are the best so far.

        Args:
            step: Number of steps taken.
            last: Number of the last step.
            weights: Current weights of the training.
            runtime: Runtime. Data-parallel processes use the mean of their losses, so all stop at the same step.

        Returns:
            True if training should stop.
        """
        if step % self.every and step != last:
            return False
        with as_one():
            own = self.loss()
        loss = runtime.sharing.mean(own, runtime.device)
        if loss < self.best:
            self.best, self._in_vain = loss, 0
            self._kept = [weight.detach().clone() for weight in weights]
        else:
            self._in_vain += 1
        return self._in_vain >= self.patience

    def go_back(self, weights: Sequence[Tensor]) -> None:
        """Restore the best weights. Does nothing if every loss was NaN."""
        for weight, kept in zip(weights, self._kept, strict=False):  # `_kept` is empty if every loss was NaN
            weight.data.copy_(kept)


def bucketed_batches(lengths: IntArray, batch_size: int, rng: np.random.Generator) -> list[IntArray]:
    """Divide one epoch into batches of rows of similar length, in random order. Each row occurs once.

    Rows are shuffled, sorted by length within pools of `POOL_BATCHES` batches, and cut into batches. The batches are
    then shuffled.

    Args:
        lengths: int [F]: length of each row.
        batch_size: Rows per batch; the last batch of a pool may have fewer.
        rng: Random generator.

    Returns:
        Row numbers of each batch, int [B].
    """
    order = rng.permutation(len(lengths))
    pool = batch_size * POOL_BATCHES
    batches: list[IntArray] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches.extend(rows[first : first + batch_size] for first in range(0, len(rows), batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]


def fit(
    model: nn.Module,
    lengths: IntArray,
    loss_of: Callable[[IntArray], BatchLoss],
    settings: OptimiserSettings,
    runtime: Runtime,
    randomness: StreamName,
    *,
    lower: str = "the learning rate",
    parameters: Iterable[nn.Parameter] | None = None,
    max_steps: int | None = None,
    progress: Progress | None = None,
    watch: KeepBest | None = None,
) -> FitResult:
    """Train a model with AdamW, gradient clipping, and a learning rate that falls linearly to 0 after a warm-up.

    Row order and dropout depend only on `randomness`, so two trainings with the same stream differ only through their
    losses. In data-parallel training, the loss is that of the whole batch, and each process draws different dropout.

    Args:
        model: The model, trained in place.
        lengths: int [F]: length of each row.
        loss_of: Returns the loss function of a batch, given its row numbers.
        settings: Epochs, batch size and optimiser settings.
        runtime: Device, precision and data parallelism.
        randomness: Random stream.
        lower: Name of the setting that the error message advises to lower.
        parameters: Parameters to train; all if None.
        max_steps: Maximum number of steps.
        progress: Called with (step, number of steps) after each step.
        watch: Early stopping. It also restores the best weights at the end.

    Returns:
        Number of steps, mean loss of the last epoch, and seconds.

    Raises:
        Diverged: If the final weights are not finite, or a loss is not finite and there is no `watch`.
    """
    began = time.perf_counter()
    order = (randomness / "order").generator()
    epochs = [bucketed_batches(lengths, settings.batch_size, order) for _ in range(settings.epochs)]
    batches = [rows for epoch in epochs for rows in epoch][:max_steps]
    trained = model.parameters() if parameters is None else parameters
    model.train()
    model.zero_grad(set_to_none=True)  # a previous training may have failed during a step
    with (
        runtime.sharing.own(randomness / "dropout").torch(),
        training_weights(model, trained, runtime.precision, runtime.device.type) as weights,
    ):
        training = _Training(model, weights, settings, runtime, len(batches))
        training.run(batches, loss_of, progress, watch)
        training.require_finite(lower, losses_too=watch is None)
    runtime.give_back_memory()
    last_epoch = training.losses[-len(epochs[-1]) :] if epochs else []
    return FitResult(len(training.losses), _mean(last_epoch), time.perf_counter() - began)


class _Training:
    """State of one training: weights, optimiser, learning-rate schedule, and the losses of the steps taken.

    Args:
        model: The model, in training mode.
        weights: Master weights of the trained parameters.
        settings: Optimiser settings.
        runtime: Device, precision and data parallelism.
        n_steps: Number of steps, over which the learning rate falls to 0.
    """

    def __init__(
        self, model: nn.Module, weights: Fp32Weights, settings: OptimiserSettings, runtime: Runtime, n_steps: int
    ) -> None:
        self.losses: list[Tensor] = []
        """Loss of each step taken, a scalar on the device."""
        self._model, self._weights, self._settings, self._runtime = model, weights, settings, runtime
        self._n_steps = n_steps
        self._accumulation = Accumulation(settings.batch_size, runtime)
        self._optimiser, self._schedule = _optimiser(weights.masters, settings, runtime, n_steps)

    def run(
        self,
        batches: Sequence[IntArray],
        loss_of: Callable[[IntArray], BatchLoss],
        progress: Progress | None,
        watch: KeepBest | None,
    ) -> None:
        """Take one step per batch, until `watch` stops the training or a check finds a loss that is not finite.

        Args:
            batches: Row numbers of each batch, int [B].
            loss_of: Returns the loss function of a batch, given its row numbers.
            progress: Called with (step, number of steps) after each step.
            watch: Early stopping. Its best weights are restored at the end.
        """
        masters = self._weights.masters
        if watch is not None:
            watch.after(0, self._n_steps, masters, self._runtime)
        for step, rows in enumerate(batches, start=1):
            self._step(loss_of(rows), len(rows))
            if progress is not None:
                progress(step, self._n_steps)
            if watch is not None and watch.after(step, self._n_steps, masters, self._runtime):
                break
            if step % LOOK_EVERY == 0:
                self._runtime.give_back_memory()
                if not _are_finite(self.losses[-LOOK_EVERY:]):
                    break
        if watch is not None:
            watch.go_back(masters)

    def _step(self, loss: BatchLoss, n_rows: int) -> None:
        """Update the weights with the gradients of one batch of `n_rows` rows."""
        with as_one():  # one GPU may run out of memory while the others wait for its gradients
            self.losses.append(self._accumulation.backward(loss, n_rows, self._model))
        self._weights.collect_gradients()
        gradients = [master.grad for master in self._weights.masters if master.grad is not None]
        self._runtime.sharing.average([self.losses[-1], *gradients])
        nn.utils.clip_grad_norm_(self._weights.masters, self._settings.max_grad_norm)
        self._optimiser.step()
        self._weights.publish()
        self._schedule.step()
        self._optimiser.zero_grad(set_to_none=True)

    def require_finite(self, lower: str, *, losses_too: bool) -> None:
        """Raise Diverged if the weights, or the losses if `losses_too`, are not finite.

        Args:
            lower: Name of the setting that the error message advises to lower.
            losses_too: Whether every loss must be finite as well.
        """
        if not _are_finite(self._weights.masters) or (losses_too and not _are_finite(self.losses)):
            raise Diverged(
                f"the training diverged: after {len(self.losses)} of {self._n_steps} steps its loss or weights are not "
                f"finite. Lower {lower} ({self._settings.learning_rate:g})."
            )


def _optimiser(
    weights: Sequence[Tensor], settings: OptimiserSettings, runtime: Runtime, n_steps: int
) -> tuple[AdamW, LambdaLR]:
    """Create AdamW and its learning-rate schedule over `n_steps` steps."""
    optimiser = AdamW(
        weights,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=runtime.device.type != "mps",
    )
    warm_up = math.ceil(settings.warmup_ratio * n_steps)
    return optimiser, get_linear_schedule_with_warmup(optimiser, warm_up, n_steps)


def _mean(losses: list[Tensor]) -> float:
    """Return the mean of scalar losses, or NaN if there are none."""
    return float(torch.stack(losses).float().mean()) if losses else math.nan


def _are_finite(tensors: Sequence[Tensor]) -> bool:
    """Return whether all elements of all tensors are finite."""
    return all(bool(tensor.detach().isfinite().all()) for tensor in tensors)
