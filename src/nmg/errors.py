"""The one error a user can cause.

Everything a user can get wrong (a file, a field, a setting, a model that does not fit) ends in a `UserError` whose
message is a complete sentence for that user. The command line prints it and exits with code 2; a traceback therefore
always means a fault of ours.
"""

from pathlib import Path


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
        place += f", field '{field}'"
    return UserError(f"{place}: {problem}")
