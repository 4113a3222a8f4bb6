"""Rows with fixed masks, and the mark by which a collator recognises such rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset
from transformers import BatchEncoding

from nmg.base.errors import UserError
from nmg.base.types import IGNORED_LABEL, IntArray

MARK = "masked_by_nmg"
"""Column that marks a masked row. It is preserved by data sets, files, workers and streaming."""


class FixedRow(BatchEncoding):  # type: ignore[misc]
    """A row returned by `MaskingCollator.fix`. It is not a `dict`, because Trainer would drop the mark of a `dict`."""


class FixedRows(IterableDataset[FixedRow]):
    """The rows of a streamed data set with fixed masks, made when they are read. Each pass reads the data set again."""

    def __init__(self, dataset: Iterable[Any], fix: Callable[[Any], FixedRow]) -> None:
        self._dataset, self._fix = dataset, fix

    def __iter__(self) -> Iterator[FixedRow]:
        yield from map(self._fix, self._dataset)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch to the data set if it shuffles by epoch."""
        if hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(epoch)


def is_streamed(dataset: Any) -> bool:
    """Return whether a data set is streamed: an `IterableDataset` of torch, or an iterable without a length.

    The latter includes the `IterableDataset` of datasets, but not iterators.
    """
    is_unsized = not hasattr(dataset, "__len__") and not hasattr(dataset, "__next__")
    return isinstance(dataset, IterableDataset) or (is_unsized and hasattr(dataset, "__iter__"))


def fixed_labels(row: Any, mask_id: int) -> IntArray | None:
    """Return the labels (int64 [T]) of a row made by `fix`; None for other rows, even if they have labels.

    Args:
        row: a row as passed to the collator.
        mask_id: id of the mask token.

    Raises:
        UserError: If the row is masked but not marked, or is marked but has no labels for its tokens.
    """
    if not isinstance(row, Mapping):
        return None
    labels, ids = _numbers(row.get("labels")), _numbers(row.get("input_ids"))
    if row.get(MARK):
        if labels is None or ids is None or len(labels) != len(ids):
            raise UserError(f"a row has the column {MARK}, but no labels for its input_ids: remove the column")
        return labels
    if labels is not None and ids is not None and len(labels) == len(ids):
        at_masks = labels[ids == mask_id]
        if len(at_masks) and bool(((at_masks >= 0) & (at_masks != mask_id)).all() and IGNORED_LABEL in labels):
            raise UserError(
                f"a row is already masked, but its column {MARK} is missing. If the row is from collator.fix, Trainer "
                "has removed the column: set remove_unused_columns=False. Otherwise, pass rows that are not masked."
            )
    return None


def _numbers(values: Any) -> IntArray | None:
    """Return int64 [T], or None if `values` is not a one-dimensional sequence of integers."""
    if values is None or np.ndim(values) != 1:
        return None
    found = np.asarray(values)
    return found.astype(np.int64) if found.dtype.kind in "iu" else None
