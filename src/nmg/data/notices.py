"""Warnings about valid but suspicious data. Each warning is given once per process."""

import logging
from pathlib import Path

from nmg.base.distributed import is_main_process
from nmg.base.errors import printable

_log = logging.getLogger(__name__)
_given: set[tuple[str, str]] = set()


def warn_once(source: Path | str, problem: str, topic: str | None = None) -> None:
    """Log `warning: SOURCE: PROBLEM`, unless this process has logged it before.

    Args:
        source: the file or other subject of the warning.
        problem: what is wrong and, if possible, what to do.
        topic: identifies the warning if given, so that repetitions with different numbers are not logged.
    """
    key = (str(source), topic or problem)
    if key not in _given and is_main_process():
        _given.add(key)
        _log.warning("%s", printable(f"warning: {source}: {problem}"))
