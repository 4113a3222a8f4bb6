"""Gradient accumulation: splits a batch into several passes if the settings require it or memory runs out."""

import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from nmg.base.errors import UserError
from nmg.training.fast.functions import fast_functions
from nmg.training.runtime import Runtime

BatchLoss: TypeAlias = Callable[[slice], Tensor]
"""Maps a slice of the rows of a batch to their part of the mean loss of the batch, a scalar.

`slice(None)` gives the loss of the whole batch.
"""


class Accumulation:
    """Gradient accumulation of one training run.

    A pass has at most `runtime.micro_batch_size` rows. The number is halved whenever memory runs out. A batch with more
    than `batch_size` rows has joined documents (`adapt.join_documents`), and a pass the same fraction of it.

    Args:
        batch_size: Rows of a batch, or the number of rows whose place joined documents take.
        runtime: Runtime of the training run.
        scale: Scales a loss before the backward pass, so that its gradients fit into fp16.
    """

    def __init__(
        self, batch_size: int, runtime: Runtime, scale: Callable[[Tensor], Tensor] = lambda loss: loss
    ) -> None:
        self.at_once = min(runtime.micro_batch_size or batch_size, batch_size)
        """Maximum number of rows per pass."""
        self._batch_size, self._runtime, self._scale = batch_size, runtime, scale

    def backward(self, loss: BatchLoss, n_rows: int, model: nn.Module) -> Tensor:
        """Compute the gradients of this process's share of a batch and add them to the parameters of `model`.

        Losses and gradients, averaged over all data-parallel processes, equal those of the whole batch. Gradients are
        scaled, losses are not.

        Args:
            loss: Loss of some rows of the batch.
            n_rows: Number of rows of the batch.
            model: The model to differentiate.

        Returns:
            The loss of the share, a scalar without gradient.

        Raises:
            UserError: If a single row does not fit into memory.
        """
        share, times = self._runtime.sharing.share(n_rows)
        while True:
            try:
                return self._in_parts(loss, share, times, self._rows_per_pass(n_rows), model)
            except torch.OutOfMemoryError as error:
                if self.at_once == 1 or len(share) == 1:
                    raise UserError(
                        "out of GPU memory while training on a single text: use shorter texts (adapt.block_size, "
                        "finetune.max_length) or a smaller model"
                    ) from error
            # Outside the handler, because the exception keeps the tensors of the failed pass alive.
            self.at_once = -(-min(self.at_once, len(share)) // 2)
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            warnings.warn(
                f"out of GPU memory: from now on, gradients of a batch are accumulated {self.at_once} rows at a time, "
                f"which changes only dropout. Set runtime.micro_batch_size {self.at_once} to start with that size.",
                stacklevel=3,
            )

    def _rows_per_pass(self, n_rows: int) -> int:
        """Return the maximum number of rows per pass of a batch with `n_rows` rows."""
        return max(self.at_once, -(-n_rows * self.at_once // self._batch_size))

    def _in_parts(self, loss: BatchLoss, share: range, times: int, at_once: int, model: nn.Module) -> Tensor:
        """Run the forward and backward passes and return the summed loss.

        Args:
            loss: Maps a slice of the rows of the batch to their part of the loss.
            share: Rows of the batch that this process trains on.
            times: Weight of the loss (see `DataParallel.share`).
            at_once: Maximum number of rows per pass.
            model: The model to differentiate.

        Returns:
            The loss of the share times `times`, a scalar without gradient.
        """
        parts, runtime = [], self._runtime
        for first in share[::at_once]:
            with runtime.autocast(), fast_functions(runtime.device, model):
                part = loss(slice(first, min(first + at_once, share.stop))) * times
            self._scale(part).backward()  # type: ignore[no-untyped-call]
            parts.append(part.detach())
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()
