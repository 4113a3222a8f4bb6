"""Errors that a user can cause.

Every user mistake (a file, a field, a setting, an unsuitable model) raises a `UserError`. Its message is a complete
sentence for that user. The command line prints it and exits with code 2. A traceback therefore always means a bug in
nmg.
"""

import difflib
import os
import re
import reprlib
from collections.abc import Collection

LONGEST_PROBLEM = 1000
"""Maximum number of characters of a problem or field in `bad_input`; keeps messages readable for any file content."""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and line feed, marks that change the direction of text, and lone surrogates."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 120


class UserError(Exception):
    """Invalid input. The message says what is wrong, where it is and, if possible, how to fix it."""


class Diverged(UserError):  # noqa: N818 the name says what happened to the training
    """The losses, weights or scores of a training run are no longer finite. Its settings are the cause."""


def bad_input(
    path: str | os.PathLike[str], problem: str, *, line: int | None = None, field: str | None = None
) -> UserError:
    """Return a `UserError` that names the file and, if given, the line and the field.

    Args:
        path: the file, or another name of the input.
        problem: what is wrong; shortened to `LONGEST_PROBLEM` characters.
        line: line number, from 1.
        field: name of the field.

    Returns:
        The error, for the caller to raise.

    >>> str(bad_input("train.jsonl", "is missing", line=3, field="label"))
    "train.jsonl, line 3, field 'label': is missing"
    """
    place = os.fspath(path)
    if line is not None:
        place += f", line {line}"
    if field is not None:
        place += f", field '{_cut(field)}'"
    return UserError(f"{place}: {_cut(problem)}")


def unknown_argument(call: str, name: str, known: Collection[str]) -> UserError:
    """Return a `UserError` for an argument that a function does not have, with the most similar one that it has.

    >>> str(unknown_argument("nmg.adapt", "corpsu", ["corpus", "model"]))
    "nmg.adapt has no argument 'corpsu'; did you mean 'corpus'?"
    """
    matches = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{matches[0]}'?" if matches else f" (known: {', '.join(known)})"
    return UserError(f"{call} has no argument '{name}'{hint}")


def problem_line(error: BaseException) -> str:
    """Return an error as one line: its type and the first line of its message.

    >>> problem_line(RuntimeError("out of memory\\nhere"))
    'RuntimeError: out of memory'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def shown(value: object) -> str:
    """Return the `repr` of a user's value for a message. The middle of long values is omitted.

    >>> shown([1, "a"])
    "[1, 'a']"
    """
    try:
        return _short.repr(value)
    except ValueError:  # Python does not convert integers of more than 4300 digits to text
        return "a very long number"


def printable(text: str) -> str:
    """Return text that is safe to print: control characters and direction marks are replaced by escapes.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_PROBLEM else f"{text[: LONGEST_PROBLEM - 1]}…"
