"""Packed rows: several documents in one row, whose `position_ids` start again at each document."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nmg.base.errors import UserError
from nmg.base.types import IntArray

POSITIONS = "position_ids"
OF_BATCH = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")
"""Columns of transformers' `DataCollatorWithFlattening` that describe a whole batch."""


def without_batch_columns(features: Any, has_padding: bool) -> tuple[Any, dict[str, Any]]:
    """Separate the columns that describe a whole flattened batch (`OF_BATCH`) from the others.

    Args:
        features: what the collator was given.
        has_padding: whether the collator pads rows to a multiple, which these columns do not allow.

    Returns:
        The features without these columns, and the columns.

    Raises:
        UserError: If there are such columns and `has_padding` is True.
    """
    if not isinstance(features, Mapping):
        return features, {}
    found = {name: features[name] for name in OF_BATCH if name in features}
    if found and has_padding:
        raise UserError(
            f"pad_to_multiple_of: does not work with the column {next(iter(found))} of a flattened batch: leave it out"
        )
    return ({name: values for name, values in features.items() if name not in found} if found else features), found


def cut_at_documents(word_index: IntArray, position_ids: Any) -> IntArray:
    """Return int64 [T]: word numbers in which no word continues from one document to the next.

    >>> cut_at_documents(np.array([0, 1, 1, 2]), [0, 1, 0, 1]).tolist()
    [0, 1, 2, 3]

    Args:
        word_index: int64 [T], non-decreasing.
        position_ids: T positions; a document begins where they do not increase by 1.
    """
    places = np.asarray(position_ids, dtype=np.int64)
    is_cut = (np.diff(places, prepend=places[:1] - 1) != 1) & (np.diff(word_index, prepend=-1) == 0)
    cut: IntArray = word_index + np.cumsum(is_cut)
    return cut
