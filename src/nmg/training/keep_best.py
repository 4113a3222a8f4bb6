"""Early stopping: measures the loss during training, and keeps the weights with its lowest value."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from nmg.base.distributed import as_one
from nmg.base.state import State, in_order, numbered
from nmg.training.runtime import Runtime


@dataclass
class KeepBest:
    """Measures a loss during training. With `patience`, it also stops the training and restores the best weights."""

    loss: Callable[[], float]
    """Returns the loss of the current model in evaluation mode and leaves the model unchanged."""
    every: int
    """Steps between two measurements. The loss is also measured before the first step and after the last."""
    patience: int | None
    """Number of consecutive measurements without a new best after which training stops. None: training never stops
    early, and ends with its last weights."""
    best: float = math.inf
    """Lowest loss so far."""
    best_step: int = 0
    """Number of steps before the best measurement."""
    measured: list[tuple[int, float]] = field(default_factory=list)
    """Number of steps and loss of each measurement."""
    _kept: list[Tensor] = field(default_factory=list)
    """Copy of the best weights; empty without `patience`."""
    _in_vain: int = 0
    """Number of consecutive measurements without a new best."""

    @property
    def is_over(self) -> bool:
        """Whether training should stop."""
        return self.patience is not None and self._in_vain >= self.patience

    def after(self, step: int, last: int, weights: Sequence[Tensor], runtime: Runtime) -> None:
        """Measure the loss if it is due, and copy the weights if they are the best so far.

        Args:
            step: Number of steps taken.
            last: Number of the last step.
            weights: Current weights of the training.
            runtime: Runtime. Data-parallel processes use the mean of their losses, so all stop at the same step.
        """
        if step % self.every and step != last:
            return
        with as_one():
            own = self.loss()
        loss = runtime.sharing.mean(own, runtime.device)
        self.measured.append((step, loss))
        if loss < self.best:
            self.best, self.best_step, self._in_vain = loss, step, 0
            self._kept = [] if self.patience is None else [weight.detach().clone() for weight in weights]
        else:
            self._in_vain += 1

    def go_back(self, weights: Sequence[Tensor]) -> None:
        """Restore the best weights. Does nothing without `patience` or if every loss was NaN."""
        for weight, kept in zip(weights, self._kept, strict=False):  # `_kept` is empty in both cases
            weight.data.copy_(kept)

    def state(self) -> State:
        """Return the losses and the best weights."""
        losses = [[step, _as_text(loss)] for step, loss in self.measured]
        facts = {"measured": losses, "best": _as_text(self.best), "best_step": self.best_step, "in_vain": self._in_vain}
        return State(numbered(self._kept), facts)

    def restore(self, state: State) -> None:
        """Restore the losses and the best weights from `state`."""
        facts = state.facts
        self.measured = [(int(step), float(loss)) for step, loss in facts["measured"]]
        self.best, self.best_step = float(facts["best"]), int(facts["best_step"])
        self._in_vain, self._kept = int(facts["in_vain"]), in_order(state.tensors)


def _as_text(loss: float) -> str:
    """Return a loss as text, because JSON has no NaN and no infinity. `float` reads back the same number."""
    return repr(float(loss))
