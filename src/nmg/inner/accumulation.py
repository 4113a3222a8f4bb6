"""The gradient of a batch, in one pass, or in several where the GPU's memory is too short for one."""

import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from nmg.errors import UserError
from nmg.inner.runtime import Runtime

BatchLoss: TypeAlias = Callable[[slice], Tensor]
"""some rows of a batch → what they add to its mean loss (scalar); for all, slice(None), the loss of the batch"""


class Accumulation:
    """Of one training: it starts with whole batches, and goes on with smaller parts where memory ran out."""

    def __init__(self, batch_size: int) -> None:
        self.at_once = batch_size
        """rows of a pass, at most"""

    def backward(self, loss: BatchLoss, n_rows: int, runtime: Runtime, model: nn.Module) -> Tensor:
        """Give the parameters of `model` the gradient of a batch; returns its loss, a scalar without gradient.

        Raises UserError where not even a single row fits into memory.
        """
        while True:
            try:
                return self._in_parts(loss, n_rows, runtime)
            except torch.OutOfMemoryError as error:
                if self.at_once == 1 or n_rows == 1:
                    raise UserError(
                        "out of GPU memory while training on a single text: use shorter ones (adapt.block_size, "
                        "finetune.max_length) or a smaller model"
                    ) from error
            # Not in the handler: the error keeps the tensors of the failed pass until it ends.
            self.at_once = -(-min(self.at_once, n_rows) // 2)
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            warnings.warn(
                f"out of GPU memory: batches go through the model {self.at_once} rows at a time from here on, and the "
                "gradients of a batch add up. Only dropout differs from that of whole batches.",
                stacklevel=3,
            )

    def _in_parts(self, loss: BatchLoss, n_rows: int, runtime: Runtime) -> Tensor:
        parts = []
        for first in range(0, n_rows, self.at_once):
            with runtime.autocast():
                part = loss(slice(first, first + self.at_once))
            part.backward()  # type: ignore[no-untyped-call]
            parts.append(part.detach())
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()
