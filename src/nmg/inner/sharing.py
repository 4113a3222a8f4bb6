"""How several processes train one model: each has a share of every batch, and their gradients are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nmg.seeding import StreamName


@dataclass(frozen=True)
class Sharing:
    """Of one of them."""

    processes: int = 1
    index: int = 0

    def share(self, n_rows: int) -> tuple[range, int]:
        """The rows of a batch that this process trains on, and how often each counts.

        What they add to the loss of the batch, times that number, averages over the processes to the loss. A batch of
        fewer rows than there are processes is trained on by each.
        """
        if n_rows < self.processes:
            return range(n_rows), 1
        first, last = (n_rows * index // self.processes for index in (self.index, self.index + 1))
        return range(first, last), self.processes

    def own(self, randomness: StreamName) -> StreamName:
        """The stream of this process; the first one's is that of a process alone."""
        return randomness / self.index if self.index else randomness

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.processes > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)
                tensor.div_(self.processes)


ALONE = Sharing()
"""of a process that trains a model by itself"""
