"""Data-parallel training: each process has a share of every batch, and the gradients are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nmg.base.seeding import StreamName

BUCKET_BYTES = 2**25
"""Bytes of gradients that processes exchange at once.

Exchanging small tensors individually would be slow because of latency.
"""


@dataclass(frozen=True)
class DataParallel:
    """The number of data-parallel processes and the rank of this process."""

    processes: int = 1
    """Number of data-parallel processes."""
    index: int = 0
    """Rank of this process, from 0."""

    def share(self, n_rows: int) -> tuple[range, int]:
        """Return the rows of a batch that this process trains on, and the weight of their loss.

        Let each process multiply its part of the batch loss by the weight. The mean over all processes is then the
        batch loss. If a batch has fewer rows than there are processes, each process trains on all rows.
        """
        if n_rows < self.processes:
            return range(n_rows), 1
        first, last = (n_rows * index // self.processes for index in (self.index, self.index + 1))
        return range(first, last), self.processes

    def own(self, randomness: StreamName) -> StreamName:
        """Return the random stream of this process. Rank 0 uses the same stream as single-process training."""
        return randomness / self.index if self.index else randomness

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor with its mean over all processes. Tensors are sent in buckets of about `BUCKET_BYTES`."""
        if self.processes == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            torch.distributed.all_reduce(flat)
            flat.div_(self.processes)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)])

    def take_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor with that of rank 0."""
        if self.processes > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def mean(self, value: float, device: torch.device) -> float:
        """Return the mean of a number over all processes. Every process gets the same value, so decisions agree."""
        if self.processes == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        self.average([shared])
        return float(shared)


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Group the tensors by dtype and device, in order, into buckets of about `BUCKET_BYTES`."""
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


SINGLE = DataParallel()
"""The rank and the number of processes if this process trains alone."""
