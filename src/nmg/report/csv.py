"""Renders records as comma-separated values."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def as_csv(header: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    """Return a header and one line per record, with unrounded numbers.

    Args:
        header: Names of the columns.
        records: One mapping per line, name of a column → value; names that are not in the header are ignored, and a
            missing value or None is empty.

    Returns:
        The content of the file.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
