"""Rows that are masked once and for all, and how a collator knows them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from transformers import BatchEncoding

from nmg.errors import UserError
from nmg.types import IGNORED_LABEL, IntArray

MARK = "masked_by_nmg"
"""the column of a row that is masked already: it survives data sets, files, workers and streams"""


class FixedRow(BatchEncoding):  # type: ignore[misc]
    """A row of `MaskingCollator.fix`. Not a `dict`, so that Trainer, which drops columns of these, keeps its mark."""


def fixed_labels(row: Any, mask_id: int) -> IntArray | None:
    """[T] the labels of a row that `fix` has made; None for any other, whatever labels it has.

    Args:
        row: a row as the collator gets it.
        mask_id: of the mask token.

    Raises:
        UserError: If the row is masked but has lost its mark, or has it and no labels for its tokens.
    """
    if not isinstance(row, Mapping):
        return None
    labels, ids = _numbers(row.get("labels")), _numbers(row.get("input_ids"))
    if row.get(MARK):
        if labels is None or ids is None or len(labels) != len(ids):
            raise UserError(f"a row has the column {MARK}, but no labels for its input_ids: leave the column out")
        return labels
    if labels is not None and ids is not None and len(labels) == len(ids):
        at_masks = labels[ids == mask_id]
        if len(at_masks) and bool(((at_masks >= 0) & (at_masks != mask_id)).all() and IGNORED_LABEL in labels):
            raise UserError(
                f"a row is masked already, but its column {MARK} is missing. If the row is from collator.fix, Trainer "
                "has dropped the column: set remove_unused_columns=False. Else give rows that are not masked"
            )
    return None


def _numbers(values: Any) -> IntArray | None:
    """[T] int64, or None for what is not one row of whole numbers."""
    if values is None or np.ndim(values) != 1:
        return None
    found = np.asarray(values)
    return found.astype(np.int64) if found.dtype.kind in "iu" else None
