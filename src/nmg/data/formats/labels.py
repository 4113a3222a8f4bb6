"""Converts labels in files to class names."""

import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmg.base.errors import bad_input
from nmg.data.formats.reading import string_field
from nmg.data.notices import warn_once

MISSING_CELLS = frozenset({"nan", "NaN", "NA", "N/A", "#N/A", "<NA>", "null", "NULL"})
"""Cells of a CSV or TSV file that mean a missing label, in addition to empty cells: the values of pandas, R and SQL."""

_WHOLE = re.compile(r"[+-]?\d{1,300}(\.0+)?")
_FRACTION = re.compile(r"[+-]?\d*\.\d+")


def is_missing(value: Any, *, is_cell: bool) -> bool:
    """Return whether a label is missing.

    `is_cell`: whether the value comes from a CSV or TSV file, in which `MISSING_CELLS` are missing labels, too.
    """
    if isinstance(value, str):
        return not value.strip() or (is_cell and value.strip() in MISSING_CELLS)
    return value is None or (isinstance(value, float) and math.isnan(value))


def class_names(values: Sequence[tuple[int, Any]], path: Path, field: str) -> list[str]:
    """Return the class name of each label.

    Surrounding and repeated white space and the Unicode form (NFC) are ignored; a warning names labels that differ only
    in this way. `true` and `false` are classes. If all labels are whole numbers, `1.0` is the class `1`, because pandas
    writes integers this way in a column with gaps.

    Args:
        values: line and label of each example; no label is missing.
        path: the file, for messages.
        field: the field of the labels, for messages.

    Returns:
        The names, in the order of `values`.

    Raises:
        UserError: for lists of labels, and for numbers that are not whole or are mixed with other labels.
    """
    names = [_as_text(value, path, line, field) for line, value in values]
    fractions = [
        (line, name)
        for (line, value), name in zip(values, names, strict=True)
        if isinstance(value, float) or _FRACTION.fullmatch(name)
    ]
    if not fractions:
        _warn_of_spellings([value for _, value in values], names, path, field)
        return names
    if not all(map(_WHOLE.fullmatch, names)):
        line, name = next((one for one in fractions if not _WHOLE.fullmatch(one[1])), fractions[0])
        problem = f"contains the number {name}, but labels must be classes. For numbers, set data.task to regression."
        raise bad_input(path, problem, line=line, field=field)
    return [str(int(name.partition(".")[0])) for name in names]


def _as_text(value: Any, path: Path, line: int, field: str) -> str:
    """Return a label as text.

    Args:
        value: the label; not missing.
        path: the file, for messages.
        line: line number from 1, for messages.
        field: the field of the labels, for messages.

    Returns:
        The text: `1.0` for a whole float, `true` or `false` for a boolean, single spaces and NFC for a string.

    Raises:
        UserError: if the label is a list or blank.
    """
    if isinstance(value, list):
        problem = "contains a list, but each text must have one label. For lists, set data.task to multi-label."
        raise bad_input(path, problem, line=line, field=field)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.1f}" if value.is_integer() else str(value)
    text = string_field({field: value}, field, path, line=line)
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _warn_of_spellings(values: Sequence[Any], names: Sequence[str], path: Path, field: str) -> None:
    """Warn of labels that are written differently but read as one.

    Args:
        values: the labels as written.
        names: the class name of each label.
        path: the file, for the warning.
        field: the field of the labels, for the warning.
    """
    spellings: dict[str, dict[str, None]] = {}
    for value, name in zip(values, names, strict=True):
        if isinstance(value, str):
            spellings.setdefault(name, {})[value] = None
    for written in spellings.values():
        if len(written) > 1:
            listed = ", ".join(f"'{one}'" for one in list(written)[:3])
            warn_once(
                path, f"the labels {listed} in '{field}' differ only in spaces or Unicode form and are read as one"
            )
