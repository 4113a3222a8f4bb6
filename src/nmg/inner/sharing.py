"""How several processes train one model: each has a share of every batch, and their gradients are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nmg.seeding import StreamName

BUCKET_BYTES = 2**25
"""of gradients that processes exchange at once: an exchange of a single bias is all waiting"""


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
        """Replace each tensor by its mean over the processes, in as few exchanges as `BUCKET_BYTES` allows."""
        if self.processes == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            torch.distributed.all_reduce(flat)
            flat.div_(self.processes)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)])

    def take_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the first process."""
        if self.processes > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def mean(self, value: float, device: torch.device) -> float:
        """The mean of a number over the processes, the same for all: what they decide by it, they decide together."""
        if self.processes == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        self.average([shared])
        return float(shared)


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors in their order, those of one dtype and device together, until a bucket is full."""
    buckets: list[list[Tensor]] = []
    filling: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], int]] = {}
    for tensor in tensors:
        kind = tensor.dtype, tensor.device
        bucket, size = filling.get(kind, ([], BUCKET_BYTES))
        if size >= BUCKET_BYTES:
            bucket, size = [], 0
            buckets.append(bucket)
        bucket.append(tensor)
        filling[kind] = bucket, size + tensor.nbytes
    return buckets


ALONE = Sharing()
"""of a process that trains a model by itself"""
