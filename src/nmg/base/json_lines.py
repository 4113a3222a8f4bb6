"""Reads JSON Lines files, also while another process writes them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from nmg.base.errors import bad_input


class Lines(NamedTuple):
    """The valid and the broken lines of a JSONL file."""

    records: list[dict[str, Any]]
    broken: list[int]
    """Numbers of lines that are not a JSON object, counted from 1."""


def read_lines(path: Path) -> Lines:
    """Return the objects of a JSONL file and the numbers of its broken lines.

    Both are empty if the file does not exist. An incomplete last line is ignored.
    """
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    found = Lines([], [])
    for number, line in enumerate(lines[:-1], start=1):  # the last item is empty or an incomplete line
        try:
            found.records.append(dict(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            found.broken.append(number)
    return found


def log_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file; empty if the file does not exist. Raises UserError for a broken line."""
    found = read_lines(path)
    if found.broken:
        raise bad_input(path, "is not valid JSON", line=found.broken[0])
    return found.records
