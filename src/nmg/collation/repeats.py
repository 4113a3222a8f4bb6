"""Finds masks that a collator repeats between epochs or between the workers of a data loader."""

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader

from nmg.base.types import IGNORED_LABEL, IntArray
from nmg.collation.check_rows import Rows

BATCHES_PER_WORKER = 4
"""Number of batches that each worker returns per epoch."""
FEWEST_MASKS = 8
"""Minimum number of masked tokens for a comparison. Batches with fewer may be equal by chance."""

Collate: TypeAlias = Callable[[Any], Any]
"""Rows → a batch."""
Columns: TypeAlias = Callable[[Any], tuple[IntArray, IntArray]]
"""A batch → its `input_ids` and `labels`."""


@dataclass(frozen=True)
class Repeats:
    """Counts of batches whose masks and replacements equal those of another batch of the same rows.

    Batches are compared between epochs and between workers.
    """

    later_epochs: int
    """Number of batches after the first epoch."""
    of_epochs: int
    """Number of batches after the first epoch that equal one of an earlier epoch."""
    later_workers: int
    """Number of batches of workers other than the first."""
    of_workers: int
    """Number of batches of workers other than the first that equal one of another worker in the same epoch."""
    fewest_masks: int
    """Number of masked tokens of the batch with the fewest."""


def find_repeats(
    collate: Collate,
    rows: Sequence[Mapping[str, Any]],
    columns: Columns,
    *,
    epochs: int,
    workers: int = 0,
    is_persistent: bool = False,
    seed: int = 0,
) -> Repeats:
    """Collate the same rows for every batch of several epochs, and count equal batches.

    Equal batches show that a random stream is used twice. The order of a data set does not matter.

    Args:
        collate: the collator.
        rows: the rows of every batch.
        columns: returns `input_ids` and `labels` of a batch.
        epochs: number of epochs.
        workers: number of worker processes; 0 collates in this process.
        is_persistent: whether workers are kept between epochs (`persistent_workers` of the data loader).
        seed: seed of the global generators.

    Returns:
        The counts.
    """
    n_workers = max(workers, 1)
    seen: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    later_epochs, of_epochs, later_workers, of_workers, n_masked = 0, 0, 0, 0, []
    repeated = list(rows) * (BATCHES_PER_WORKER * n_workers)
    batches = collated(collate, repeated, len(rows), epochs, workers=workers, is_persistent=is_persistent, seed=seed)
    for epoch, number, batch in batches:
        ids, labels = columns(batch)
        worker = number % n_workers  # the order in which a data loader asks its workers
        before = seen[hashlib.blake2b(ids.tobytes() + labels.tobytes()).digest()]
        of_epochs += any(earlier < epoch for earlier, _ in before)
        of_workers += worker > 0 and any(earlier == epoch and other != worker for earlier, other in before)
        later_epochs, later_workers = later_epochs + (epoch > 0), later_workers + (worker > 0)
        before.append((epoch, worker))
        n_masked.append(int((labels != IGNORED_LABEL).sum()))
    return Repeats(later_epochs, of_epochs, later_workers, of_workers, min(n_masked))


def collated(
    collate: Collate,
    rows: Sequence[Mapping[str, Any]],
    batch_size: int,
    epochs: int,
    *,
    workers: int = 0,
    is_persistent: bool = False,
    seed: int = 0,
) -> Iterator[tuple[int, int, Any]]:
    """Yield the batches of all epochs, as a data loader returns them.

    The global generators of Python, NumPy and torch are seeded at the start and restored at the end.

    Args:
        collate: the collator.
        rows: the rows, in the order of the batches.
        batch_size: rows per batch.
        epochs: number of epochs.
        workers: number of worker processes; 0 collates in this process.
        is_persistent: whether workers are kept between epochs.
        seed: seed of the global generators.

    Yields:
        The epoch, the number of the batch within the epoch (both from 0), and the batch.
    """
    loader: DataLoader[Any] = DataLoader(
        Rows(rows),
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=is_persistent and workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )
    with _seeded(seed):
        for epoch in range(epochs):
            for number, batch in enumerate(loader):
                yield epoch, number, batch


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators inside the block and restore their states afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # some collators use the global generator
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
