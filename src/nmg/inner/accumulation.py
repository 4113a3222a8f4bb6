"""The gradient of a batch, in one pass, or in several: where the settings say so, or memory turns out too short."""

import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from nmg.errors import UserError
from nmg.fast.dropout import fast_dropout
from nmg.inner.runtime import Runtime

BatchLoss: TypeAlias = Callable[[slice], Tensor]
"""some rows of a batch → what they add to its mean loss (scalar); for all, slice(None), the loss of the batch"""


class Accumulation:
    """Of one training: its passes are of `runtime.rows_at_once` rows, and of fewer after memory ran out."""

    def __init__(self, batch_size: int, runtime: Runtime) -> None:
        self.at_once = min(runtime.rows_at_once or batch_size, batch_size)
        """rows of a pass, at most"""
        self._runtime = runtime

    def backward(self, loss: BatchLoss, n_rows: int, model: nn.Module) -> Tensor:
        """Give the parameters of `model` the gradient of this process's share of a batch.

        Returns the loss of the share, a scalar without gradient. Over the processes that train together, losses and
        gradients average to those of the batch. Raises UserError where not even a single row fits into memory.
        """
        share, times = self._runtime.sharing.share(n_rows)
        while True:
            try:
                return self._in_parts(loss, share, times, model)
            except torch.OutOfMemoryError as error:
                if self.at_once == 1 or len(share) == 1:
                    raise UserError(
                        "out of GPU memory while training on a single text: use shorter ones (adapt.block_size, "
                        "finetune.max_length) or a smaller model"
                    ) from error
            # Not in the handler: the error keeps the tensors of the failed pass until it ends.
            self.at_once = -(-min(self.at_once, len(share)) // 2)
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            warnings.warn(
                f"out of GPU memory: batches go through the model {self.at_once} rows at a time from here on, and the "
                "gradients of a batch add up. Only dropout differs from that of whole batches.",
                stacklevel=3,
            )

    def _in_parts(self, loss: BatchLoss, share: range, times: int, model: nn.Module) -> Tensor:
        parts, runtime = [], self._runtime
        for first in share[:: self.at_once]:
            with runtime.autocast(), fast_dropout(runtime.device, model):
                part = loss(slice(first, min(first + self.at_once, share.stop))) * times
            part.backward()  # type: ignore[no-untyped-call]
            parts.append(part.detach())
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()
