"""Random streams for batches, in any number of worker processes.

A data loader copies its collator into its worker processes again in every epoch. A table in shared memory therefore
counts how often each worker number was started, and this count is part of the names of streams. Streams thus differ
between workers and between epochs, but equal seeds give equal masks.
"""

import os
from typing import Any

import torch
from torch.utils.data import get_worker_info

from nmg.base.seeding import StreamName

MOST_WORKERS = 1023
"""Maximum number of workers of a data loader that have separate streams."""
_STARTS, _BATCHES = 0, 1


class BatchStreams:
    """Provides the name of a random stream for every batch, and counts the batches."""

    def __init__(self, seed: int) -> None:
        self._name = StreamName(seed) / "collator"
        # Column 0 is for the process of the data loader, column 1 + w for worker w. Each writes only its own column.
        self._table = torch.zeros(2, 1 + MOST_WORKERS, dtype=torch.int64)
        self._table.share_memory_()  # type: ignore[no-untyped-call]
        self._here: tuple[int, int, int] | None = None
        """Process id, column and start number of the current process; None before the first batch."""
        self._within = 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, and move its table to shared memory, or new workers would repeat the first epoch."""
        vars(self).update(state)
        self._table.share_memory_()  # type: ignore[no-untyped-call]

    def next(self) -> tuple[StreamName, int]:
        """Return the name of the stream for the next batch, and the number of the batch, from 0.

        With workers, the number is exact if all workers produce equally many batches per epoch. Otherwise the error is
        less than the number of workers.
        """
        worker = get_worker_info()
        column, n_workers = (0, 1) if worker is None else (1 + worker.id % MOST_WORKERS, worker.num_workers)
        if self._here is None or self._here[:2] != (os.getpid(), column):
            self._here = os.getpid(), column, int(self._table[_STARTS, column])
            self._table[_STARTS, column] += 1
            self._within = 0
        number = int(self._table[_BATCHES, column]) * n_workers + max(column - 1, 0)
        self._table[_BATCHES, column] += 1
        name = self._name / os.environ.get("RANK", "0") / column / self._here[2] / self._within
        self._within += 1
        return name, number
