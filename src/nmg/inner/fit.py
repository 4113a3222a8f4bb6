"""The one training loop: LM adaptation, a new LM head and task fine-tuning all run through `fit`."""

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

from nmg.errors import Diverged
from nmg.fast.weights import training_weights
from nmg.inner.accumulation import Accumulation, BatchLoss
from nmg.inner.runtime import Runtime
from nmg.reporter import Progress
from nmg.seeding import StreamName
from nmg.settings import OptimiserSettings
from nmg.together import as_one
from nmg.types import IntArray

POOL_BATCHES = 32
"""Batches that are sorted by length together: enough to save padding, few enough to keep epochs well mixed."""
LOOK_EVERY = 20
"""steps between two looks at whether losses are finite, and two returns of kept memory; a look waits for the GPU"""


@dataclass(frozen=True)
class FitResult:
    steps: int
    loss: float
    """mean loss over the last epoch; NaN where there was no step"""
    seconds: float


@dataclass
class KeepBest:
    """Measures a loss while a training runs, ends the training where it no longer falls, and goes back to its best."""

    loss: Callable[[], float]
    """of the model as it is, in evaluation mode; leaves the model as it was"""
    every: int
    """steps between two looks; there is one before the first step and one after the last, too"""
    patience: int
    """looks in a row without a new best that end the training"""
    best: float = math.inf
    _kept: list[Tensor] = field(default_factory=list)
    _in_vain: int = 0

    def after(self, step: int, last: int, weights: Sequence[Tensor], runtime: Runtime) -> bool:
        """Look, if it is time to, and keep a copy of the best weights so far; True where the training should end.

        Args:
            step: steps taken so far.
            last: number of the last step.
            weights: of the training, as they are.
            runtime: processes that train together look at the mean of their losses, so that all end at the same step.
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
        for weight, kept in zip(weights, self._kept, strict=False):  # none is kept where every loss was NaN
            weight.data.copy_(kept)


def bucketed_batches(lengths: IntArray, batch_size: int, rng: np.random.Generator) -> list[IntArray]:
    """One epoch: every row once, in batches of similar length, in random order.

    Rows are shuffled, sorted by length within pools of `POOL_BATCHES` batches, cut into batches, and the batches are
    shuffled.
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
    """Minimise the loss of batches, `loss_of` their rows, over `settings.epochs` epochs of rows of `lengths` [F].

    AdamW, gradient clipping, learning rate falling linearly to 0 after a warm-up. Row order and dropout come from
    `randomness`, so two calls that differ in nothing but the loss see the same rows and the same dropout. `watch` may
    end the training early; in any case it leaves the weights that it found best. Where several processes train
    together, the loss is that of the whole batch, and each has dropout of its own.

    Raises Diverged, which names the setting to `lower`, where losses or weights are not finite; with `watch`, where the
    best weights are not.
    """
    began = time.perf_counter()
    order = (randomness / "order").generator()
    epochs = [bucketed_batches(lengths, settings.batch_size, order) for _ in range(settings.epochs)]
    batches = [rows for epoch in epochs for rows in epoch][:max_steps]
    trained = list(model.parameters() if parameters is None else parameters)
    losses: list[Tensor] = []
    accumulation = Accumulation(settings.batch_size, runtime)
    model.train()
    model.zero_grad(set_to_none=True)  # a training that failed in the midst of a step has left some
    with (
        runtime.sharing.own(randomness / "dropout").torch(),
        training_weights(model, trained, runtime.precision, runtime.device.type) as weights,
    ):
        optimiser, schedule = _optimiser(weights.masters, settings, runtime, len(batches))
        if watch is not None:
            watch.after(0, len(batches), weights.masters, runtime)
        for step, rows in enumerate(batches, start=1):
            with as_one():  # memory may end on one GPU alone, while the others wait for its gradients
                losses.append(accumulation.backward(loss_of(rows), len(rows), model))
            weights.collect_gradients()
            gradients = [master.grad for master in weights.masters if master.grad is not None]
            runtime.sharing.average([losses[-1], *gradients])
            nn.utils.clip_grad_norm_(weights.masters, settings.max_grad_norm)
            optimiser.step()
            weights.publish()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            if progress is not None:
                progress(step, len(batches))
            if watch is not None and watch.after(step, len(batches), weights.masters, runtime):
                break
            if step % LOOK_EVERY == 0:
                runtime.give_back_memory()
                if not _are_finite(losses[-LOOK_EVERY:]):
                    break
        if watch is not None:
            watch.go_back(weights.masters)
        if not _are_finite(weights.masters) or (watch is None and not _are_finite(losses)):
            raise Diverged(
                f"the training diverged: after {len(losses)} of {len(batches)} steps its loss or weights are not "
                f"finite. Lower {lower} ({settings.learning_rate:g})."
            )
    runtime.give_back_memory()
    return FitResult(len(losses), _mean(losses[-len(epochs[-1]) :] if epochs else []), time.perf_counter() - began)


def _optimiser(
    weights: Sequence[Tensor], settings: OptimiserSettings, runtime: Runtime, n_steps: int
) -> tuple[AdamW, LambdaLR]:
    """AdamW, and its learning rate over so many steps."""
    optimiser = AdamW(
        weights,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=runtime.device.type != "mps",
    )
    warm_up = math.ceil(settings.warmup_share * n_steps)
    return optimiser, get_linear_schedule_with_warmup(optimiser, warm_up, n_steps)


def _mean(losses: list[Tensor]) -> float:
    return float(torch.stack(losses).float().mean()) if losses else math.nan


def _are_finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(tensor.detach().isfinite().all()) for tensor in tensors)
