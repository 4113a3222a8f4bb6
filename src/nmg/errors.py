"""The one error a user can cause.

Everything a user can get wrong (a file, a field, a setting, a model that does not fit) ends in a `UserError` whose
message is a complete sentence for that user. The command line prints it and exits with code 2; a traceback therefore
always means a fault of ours.
"""

import re
import reprlib
from pathlib import Path

LONGEST_PROBLEM = 1000
"""characters of what `bad_input` says of a place: a file may hold anything, a message stays readable"""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""control characters but tab and line feed, marks that turn the direction of text, halves of characters"""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 120


class UserError(Exception):
    """Bad input: the message says what, where and, if it can, how to mend it."""


class Diverged(UserError):  # noqa: N818 it says what the training did
    """A training whose losses, weights or scores are no longer finite: its settings are to blame."""


def bad_input(path: Path | str, problem: str, *, line: int | None = None, field: str | None = None) -> UserError:
    """A `UserError` that names the file and, where known, the line (from 1) and the field.

    >>> str(bad_input("train.jsonl", "is missing", line=3, field="label"))
    "train.jsonl, line 3, field 'label': is missing"
    """
    place = str(path)
    if line is not None:
        place += f", line {line}"
    if field is not None:
        place += f", field '{_cut(field)}'"
    return UserError(f"{place}: {_cut(problem)}")


def problem_line(error: BaseException) -> str:
    """An error in one line: its type, and the first line of what it says.

    >>> problem_line(RuntimeError("out of memory\\nhere"))
    'RuntimeError: out of memory'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def shown(value: object) -> str:
    """A value that a user wrote, for a message: as Python writes it, its middle left out where it is long.

    >>> shown([1, "a"])
    "[1, 'a']"
    """
    try:
        return _short.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of many digits"


def printable(text: str) -> str:
    """Text for a terminal: what would steer it, or turn the direction of text, stands there as an escape.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_PROBLEM else f"{text[: LONGEST_PROBLEM - 1]}…"
