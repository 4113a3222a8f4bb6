"""Reads and writes texts with a number each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmg.base.errors import bad_input
from nmg.data.formats.labelled_texts import TextFields, Texts, read_labelled_texts, write_labelled_texts
from nmg.data.formats.reading import NO_CONTEXT


@dataclass(frozen=True)
class RegressionExample(Texts):
    """A text, or a pair of texts, with its number."""

    id: str
    text: str
    number: float
    context_id: int
    pair: str | None = None


def read_regression(path: Path, fields: TextFields) -> list[RegressionExample]:
    """Read the examples in file order.

    Args:
        path: a table, JSON, or a data set of the hub (`tables.read_records`).
        fields: the names of the fields. A label field holds a number, or its decimal digits as text.

    Returns:
        The examples, without contexts.

    Raises:
        UserError: With line and field, as in `read_labelled_texts`. Also if a value is not a finite number.
    """
    return [
        RegressionExample(one.id, one.text, _number(one.value, path, one.line, fields.label), NO_CONTEXT, one.pair)
        for one in read_labelled_texts(path, fields)
    ]


def _number(value: Any, path: Path, line: int, field: str) -> float:
    """Return a value as a float. Raises UserError if it is not a finite number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and "_" not in value):  # Python would read 1_000
        raise bad_input(path, "must be a number", line=line, field=field)
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise bad_input(path, f"must be a number, not '{str(value)[:40]}'", line=line, field=field) from error
    if not math.isfinite(number):
        raise bad_input(path, f"must be a finite number, not {number}", line=line, field=field)
    return number


def write_regression(examples: Sequence[RegressionExample], path: Path, fields: TextFields) -> None:
    """Write id, text, second text (if any) and number as JSONL, CSV or TSV, depending on the file extension.

    Args:
        examples: the examples to write.
        path: the file to write.
        fields: the names of the fields.

    Raises:
        UserError: if the file cannot be written.
    """
    write_labelled_texts(examples, path, fields, lambda one: one.number)
