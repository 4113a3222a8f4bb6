"""The training loop that LM adaptation, LM head warm-up and task fine-tuning share."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from nmg.base.distributed import as_one, of_each
from nmg.base.errors import Diverged
from nmg.base.progress import Progress
from nmg.base.seeding import StreamName
from nmg.base.state import Resumable, State, in_order, numbered, restore_torch_random, torch_random_state
from nmg.base.training_settings import OptimiserSettings
from nmg.base.trial import TrainingStats
from nmg.base.types import IntArray
from nmg.training.accumulation import Accumulation, BatchLoss
from nmg.training.batches import bucketed_batches, joined_batches
from nmg.training.fast.checkpointing import gradient_checkpointing
from nmg.training.fast.weights import Fp32Weights, training_weights
from nmg.training.keep_best import KeepBest
from nmg.training.optimiser import new_optimiser, new_schedule
from nmg.training.runtime import Runtime

LOOK_EVERY = 20
"""Steps between two checks for finite losses, which also release cached memory. A check waits for the GPU."""
FIRST_SCALE = 2.0**12
"""Initial loss scale in fp16. torch's default of 2^16 would skip some of the few steps of an inner loop."""


class Observer(Protocol):
    """Follows a training run, for example to log and to store it."""

    def begin(self, training: "Training") -> None:
        """Called before the first step. May restore an earlier state of the training."""
        ...

    def after_step(self, training: "Training") -> None:
        """Called after each step. Must leave the training unchanged."""
        ...


def fit(
    model: nn.Module,
    lengths: IntArray,
    loss_of: Callable[[IntArray], BatchLoss],
    settings: OptimiserSettings,
    runtime: Runtime,
    randomness: StreamName,
    *,
    rows_of: Callable[[int], IntArray | None] = lambda _epoch: None,
    n_batches: int | None = None,
    lower: str = "the learning rate",
    parameters: Iterable[nn.Parameter] | None = None,
    max_steps: int | None = None,
    progress: Progress | None = None,
    watch: KeepBest | None = None,
    observer: Observer | None = None,
    parts: Mapping[str, Resumable] | None = None,
) -> TrainingStats:
    """Train a model with gradient clipping, and the optimiser and learning-rate schedule of the settings.

    Row order and dropout depend only on `randomness`, so two runs with the same stream differ only through their
    losses. In data-parallel training, the loss is that of the whole batch, and each process draws different dropout.

    Args:
        model: The model, trained in place.
        lengths: int [F]: length of each row.
        loss_of: Returns the loss function of a batch, given its row numbers.
        settings: Epochs, batch size and optimiser settings.
        runtime: Device, precision and data parallelism.
        randomness: Random stream.
        rows_of: Returns the row numbers of an epoch, given its number from 0; None for all rows.
        n_batches: Number of batches of an epoch, with about as many tokens each; None for batches of
            `settings.batch_size` rows.
        lower: Name of the setting that the error message advises to lower.
        parameters: Parameters to train; all if None.
        max_steps: Maximum number of steps.
        progress: Called with (step, number of steps) after each step.
        watch: Measures a loss during training. It may stop the training and restore the best weights at the end.
        observer: Follows the training; may restore it before the first step.
        parts: Name → part with a state of its own kind, such as the masks. A checkpoint stores every state.

    Returns:
        Number of steps, mean loss of the last epoch, and wall time in seconds.

    Raises:
        Diverged: If the final weights are not finite, or a loss is not finite and there is no `watch`.
        UserError: If the optimiser's package is not installed, or if the model does not support
            `runtime.gradient_checkpointing`.
    """
    began = time.perf_counter()
    order = (randomness / "order").generator()
    if n_batches is None:
        divided = partial(bucketed_batches, lengths, settings.batch_size, order)
    else:
        divided = partial(joined_batches, lengths, n_batches, order)
    epochs = [divided(rows_of(number)) for number in range(settings.epochs)]
    batches = [rows for epoch in epochs for rows in epoch][:max_steps]
    trained = model.parameters() if parameters is None else parameters
    model.train()
    model.zero_grad(set_to_none=True)  # a previous training may have failed during a step
    with (
        runtime.sharing.own(randomness / "dropout").torch(),
        gradient_checkpointing(model, runtime),
        training_weights(model, trained, runtime.precision, runtime.device.type) as weights,
    ):
        training = Training(model, weights, settings, runtime, batches, lengths)
        training.parts = {"training": training, **({} if watch is None else {"watch": watch}), **(parts or {})}
        training.run(loss_of, progress, watch, observer)
        training.require_finite(lower, losses_too=watch is None or watch.patience is None)
    runtime.give_back_memory()
    last_epoch = training.losses[-len(epochs[-1]) :] if epochs else []
    if runtime.precision == "fp16":
        last_epoch = [loss for loss in last_epoch if loss.isfinite()]  # the steps of the others were skipped
    return TrainingStats(len(training.losses), _mean(last_epoch), time.perf_counter() - began)


class Training:
    """State of a training run: weights, optimiser, learning-rate schedule, and the losses of the steps taken.

    Args:
        model: The model, in training mode.
        weights: Master weights of the trained parameters.
        settings: Optimiser settings.
        runtime: Device, precision and data parallelism.
        batches: Row numbers of each batch, int [B]. The schedule runs over all of them.
        lengths: int [F]: length of each row.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Fp32Weights,
        settings: OptimiserSettings,
        runtime: Runtime,
        batches: Sequence[IntArray],
        lengths: IntArray,
    ) -> None:
        self.losses: list[Tensor] = []
        """Loss of each step taken, a scalar on the device."""
        self.watch: KeepBest | None = None
        """Measures a loss during training; None for no measurements."""
        self.parts: Mapping[str, Resumable] = {}
        """Name → part with a state, this object included."""
        self._model, self._weights, self._settings, self._runtime = model, weights, settings, runtime
        self._batches, self._lengths = batches, lengths
        self._scaler = GradScaler(runtime.device.type, init_scale=FIRST_SCALE, enabled=runtime.precision == "fp16")
        self._accumulation = Accumulation(settings.batch_size, runtime, self._scaler.scale)
        self._optimiser = new_optimiser(weights.masters, settings, runtime.device)
        self._schedule = new_schedule(self._optimiser, settings, len(batches))

    @property
    def model(self) -> nn.Module:
        """The model, as it is during training."""
        return self._model

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.losses)

    @property
    def n_steps(self) -> int:
        """Number of steps of the training run, unless it stops early."""
        return len(self._batches)

    @property
    def is_over(self) -> bool:
        """Whether the last step was taken."""
        return self.steps == self.n_steps or (self.watch is not None and self.watch.is_over)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self._optimiser.param_groups[0]["lr"])

    def second_moments(self) -> dict[str, Tensor]:
        """Return √v̂ of AdamW for each trained parameter that had a gradient, by name.

        v̂ is the moving average of squared gradients, corrected for its start at 0. Needs AdamW and no LoRA.
        """
        trained = dict(zip(self._weights.masters, dict(self._model.named_parameters()), strict=True))
        found = {}
        for group in self._optimiser.param_groups:
            for master in group["params"]:
                state = self._optimiser.state.get(master)
                if state:
                    corrected = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
                    found[trained[master]] = corrected.sqrt()
        return found

    def tokens(self, first: int, last: int) -> int:
        """Return the number of tokens of the steps `first` + 1 to `last`, counted from 1, special tokens included."""
        return sum(int(self._lengths[rows].sum()) for rows in self._batches[first:last])

    def run(
        self,
        loss_of: Callable[[IntArray], BatchLoss],
        progress: Progress | None,
        watch: KeepBest | None,
        observer: Observer | None,
    ) -> None:
        """Take one step per batch, until `watch` stops the training or a check finds a loss that is not finite.

        Args:
            loss_of: Returns the loss function of a batch, given its row numbers.
            progress: Called with (step, number of steps) after each step.
            watch: Measures the loss before, during and after the training, and restores the best weights.
            observer: Follows the training; may restore it before the first step.
        """
        self.watch, masters = watch, self._weights.masters
        if observer is not None:
            observer.begin(self)
        if watch is not None and not self.steps:
            watch.after(0, self.n_steps, masters, self._runtime)
        while not self.is_over:
            rows = self._batches[self.steps]
            self._step(loss_of(rows), len(rows))
            if progress is not None:
                progress(self.steps, self.n_steps)
            if watch is not None:
                watch.after(self.steps, self.n_steps, masters, self._runtime)
            if observer is not None:
                observer.after_step(self)
            if self.steps % LOOK_EVERY == 0:
                self._runtime.give_back_memory()
                if not self.is_sound:
                    break
        if watch is not None:
            watch.go_back(masters)

    @property
    def is_sound(self) -> bool:
        """Whether the last losses are finite. In fp16, one finite loss suffices."""
        return self._are_sound(self.losses[-LOOK_EVERY:])

    def _are_sound(self, losses: Sequence[Tensor]) -> bool:
        """Return whether `losses` show no divergence.

        fp16 may overflow in a single batch. The scaler skips its step and tries smaller gradients.
        """
        if not self._scaler.is_enabled() or not losses:
            return _are_finite(losses)
        return bool(torch.stack(list(losses)).isfinite().any())

    def _step(self, loss: BatchLoss, n_rows: int) -> None:
        """Update the weights with the gradients of one batch of `n_rows` rows."""
        with as_one():  # one GPU may run out of memory while the others wait for its gradients
            self.losses.append(self._accumulation.backward(loss, n_rows, self._model))
        self._weights.collect_gradients()
        gradients = [master.grad for master in self._weights.masters if master.grad is not None]
        self._runtime.sharing.average([self.losses[-1], *gradients])
        self._scaler.unscale_(self._optimiser)  # after averaging, so that all processes skip the same steps
        nn.utils.clip_grad_norm_(self._weights.masters, self._settings.max_grad_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._weights.publish()
        self._schedule.step()
        self._optimiser.zero_grad(set_to_none=True)

    def require_finite(self, lower: str, *, losses_too: bool) -> None:
        """Raise Diverged if the weights, or the losses if `losses_too`, are not finite.

        Args:
            lower: Name of the setting that the error message advises to lower.
            losses_too: Whether every loss must be finite as well.
        """
        if not _are_finite(self._weights.masters) or (losses_too and not self._are_sound(self.losses)):
            raise Diverged(
                f"the training diverged: after {len(self.losses)} of {self.n_steps} steps its loss or weights are not "
                f"finite. Lower {lower} ({self._settings.learning_rate:g})."
            )

    def state(self) -> State:
        """Return weights, optimiser, scaler, losses, and the random generators of each process, which draw dropout."""
        optimiser = self._optimiser.state_dict()
        tensors = {f"weights.{name}": master for name, master in numbered(self._weights.masters).items()}
        others: dict[str, dict[str, object]] = {}
        for number, values in optimiser["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser.{number}.{name}"] = value
                else:
                    others.setdefault(str(number), {})[name] = value
        for rank, states in enumerate(of_each(torch_random_state(self._runtime.device))):
            tensors |= {f"random{rank}.{name}": state for name, state in states.items()}
        tensors["losses"] = torch.stack(self.losses) if self.losses else torch.zeros(0)
        groups = [self._changed(group) for group in optimiser["param_groups"]]
        for number, group in enumerate(groups):
            tensors |= {f"group.{number}.{name}": value for name, value in group.items() if isinstance(value, Tensor)}
        plain = [{name: value for name, value in group.items() if not isinstance(value, Tensor)} for group in groups]
        facts = {"groups": plain, "optimiser": others, "rows_per_pass": self._accumulation.at_once}
        return State(tensors, facts | {"scaler": self._scaler.state_dict()})

    def _changed(self, group: Mapping[str, object]) -> dict[str, object]:
        """Return the options of a parameter group that may differ from those of a new optimiser."""
        given = self._optimiser.defaults
        return {
            name: value
            for name, value in group.items()
            if name != "params" and (name == "lr" or name not in given or value != given[name])
        }

    def restore(self, state: State) -> None:
        """Restore weights, optimiser, scaler, losses and random generators from `state`.

        Training then continues after the last step in `state`, with the batches of an uninterrupted run.
        """
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        with torch.no_grad():
            for master, stored in zip(self._weights.masters, in_order(parts["weights"]), strict=True):
                master.copy_(stored)
        self._weights.publish()
        self.losses = list(state.tensors["losses"].to(self._runtime.device).unbind())
        moments: dict[int, dict[str, object]] = {int(n): dict(one) for n, one in state.facts["optimiser"].items()}
        for name, tensor in parts.get("optimiser", {}).items():
            number, _, field = name.partition(".")
            moments.setdefault(int(number), {})[field] = tensor
        groups = self._optimiser.state_dict()["param_groups"]
        for group, changed in zip(groups, state.facts["groups"], strict=True):
            group.update(changed)
        for name, tensor in parts.get("group", {}).items():
            number, _, field = name.partition(".")
            groups[int(number)][field] = tensor
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self._schedule.last_epoch = self.steps
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state.facts["scaler"])
        self._accumulation.at_once = int(state.facts["rows_per_pass"])
        restore_torch_random(parts[f"random{self._runtime.sharing.index}"], self._runtime.device)


def _mean(losses: list[Tensor]) -> float | None:
    """Return the mean of scalar losses, or None if there are none."""
    return float(torch.stack(losses).float().mean()) if losses else None


def _are_finite(tensors: Sequence[Tensor]) -> bool:
    """Return whether all elements of all tensors are finite."""
    return all(bool(tensor.detach().isfinite().all()) for tensor in tensors)
