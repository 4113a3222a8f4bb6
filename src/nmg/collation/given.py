"""Conversion of lists, data sets and batches of columns (as a tokenizer returns them) into rows."""

from collections.abc import Iterable, Mapping
from typing import Any

from nmg.base.errors import UserError


def rows_of(given: Any, name: str) -> Iterable[Any]:
    """Return the rows of `given`: one row per index of a mapping of columns, else the items of the iterable.

    >>> rows_of({"input_ids": [[2, 7, 3], [2, 9, 3]]}, "a batch")
    [{'input_ids': [2, 7, 3]}, {'input_ids': [2, 9, 3]}]

    Args:
        given: rows, or a mapping of columns (a `BatchEncoding`, a batch of `datasets.map`).
        name: name of `given` in error messages.

    Raises:
        UserError: If `given` is a text, a single row or not iterable, or if its columns differ in length.
    """
    if isinstance(given, str | bytes):
        raise UserError(f"{name}: must be a list of texts or rows, not a single text: wrap it in a list")
    if isinstance(given, Mapping):
        return _of_columns(given, name)
    if not isinstance(given, Iterable):
        raise UserError(f"{name}: must be a list of texts or rows, not a {type(given).__name__}")
    return given


def _of_columns(columns: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Convert a mapping of columns into rows. Raises UserError if a column is invalid."""
    main = next((column for column in ("input_ids", "text") if column in columns), None)
    if main is None:
        there = ", ".join(map(str, columns)) or "none"
        raise UserError(f"{name}: a mapping must have a column input_ids or text (its columns: {there})")
    values = columns[main]
    is_one = isinstance(values, str) or (len(values) > 0 and not hasattr(values[0], "__len__"))
    if is_one or getattr(values, "ndim", 2) == 1:
        raise UserError(f"{name}: must be a list of rows, not a single row: wrap it in a list")
    for column, others in columns.items():
        if not hasattr(others, "__len__") or len(others) != len(values):
            n = len(others) if hasattr(others, "__len__") else 1
            raise UserError(f"{name}: the column {column} has {n} entries, but {main} has {len(values)}")
    return [{column: columns[column][number] for column in columns} for number in range(len(values))]
