"""Warnings about data that nmg reads but that a user should look at, each given once."""

import logging
from pathlib import Path

from nmg.errors import printable
from nmg.together import is_first_process

_log = logging.getLogger(__name__)
_given: set[tuple[str, str]] = set()


def warn_once(source: Path | str, problem: str, topic: str | None = None) -> None:
    """Log `warning: SOURCE: PROBLEM`, unless this process has done so before: files are read several times.

    Args:
        source: the file, or what else the warning is about.
        problem: a sentence without its full stop.
        topic: a second problem of the same topic is the same warning, though its figures differ.
    """
    key = (str(source), topic or problem)
    if key not in _given and is_first_process():
        _given.add(key)
        _log.warning("%s", printable(f"warning: {source}: {problem}"))
