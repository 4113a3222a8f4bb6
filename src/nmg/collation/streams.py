"""A stream of randomness for every batch, whichever process makes it.

A data loader copies its collator into worker processes, and does so anew for every epoch. So each process asks a table
in shared memory how often there has been a worker of its number, and names its streams by that: workers differ, epochs
differ, and the same seed gives the same masks again.
"""

import os

import torch
from torch.utils.data import get_worker_info

from nmg.seeding import StreamName

MOST_WORKERS = 1023
_STARTS, _BATCHES = 0, 1


class BatchStreams:
    """Names of streams, one a batch, and how many batches there have been."""

    def __init__(self, seed: int) -> None:
        self._name = StreamName(seed) / "collator"
        # Column 0 is the process that owns the data loader, column 1 + w its worker w. Each writes its own column only.
        self._table = torch.zeros(2, 1 + MOST_WORKERS, dtype=torch.int64)
        self._table.share_memory_()  # type: ignore[no-untyped-call]
        self._here: tuple[int, int, int] | None = None
        """process, column and number of its start, of the process that this copy serves"""
        self._within = 0

    def next(self) -> tuple[StreamName, int]:
        """The name of this batch's stream, and its number among all batches, from 0.

        With workers the number is exact where epochs have equally many batches of each worker, else off by less than
        the workers there are.
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
