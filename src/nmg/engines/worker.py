"""What a process of `ProcessEngine` does. It imports nothing heavy at first: its watch begins before torch loads."""

import logging
import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from nmg.engines.shared import pack, put_together

if TYPE_CHECKING:
    from nmg.engines.base import Workplace

LOOK_SECONDS = 1.0

_locks: list[FileLock] = []
"""that this process holds until it ends"""

_workplace: "Workplace"
"""of this process"""
_parts: dict[Path, Any] = {}
"""file → the part it holds, of the last job"""


def open_workplace(opener: bytes, threads: int, parent: int, gpus: Sequence[str], folder: Path | None) -> None:
    """Get ready to play.

    Args:
        opener: pickled; makes the workplace.
        threads: of this process.
        parent: id of the process that started this one, which ends with it.
        gpus: of this machine, by their names in CUDA_VISIBLE_DEVICES; the process takes one of them.
        folder: where the processes agree on who takes which; None without GPUs.
    """
    global _workplace  # noqa: PLW0603 the process has this one purpose
    threading.Thread(target=_end_with, args=(parent, folder), daemon=True).start()
    if gpus and folder is not None:  # before torch loads: it looks once
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[_free_number(folder) % len(gpus)]
    logging.getLogger("nmg").setLevel(logging.ERROR)  # the first process has warned of what it read
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    _workplace = pickle.loads(opener).open(threads)


def play(job: bytes, whole: type | None, *files: Path) -> bytes:
    """The result of a job; what it shares with others is `whole`, its parts in `files` (`take_apart`)."""
    global _parts  # noqa: PLW0603 as above
    _parts = {file: _parts[file] if file in _parts else pickle.loads(file.read_bytes()) for file in files}
    shared = put_together(whole, [_parts[file] for file in files])
    return pack(_workplace.play(shared, pickle.loads(job)))


def _free_number(folder: Path) -> int:
    """The lowest number that no other living process has; the system's lock on its file ends with this process."""
    for number in count():
        lock = FileLock(folder / f"process-{number}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _locks.append(lock)
        return number
    raise AssertionError("count() has no end")


def _end_with(parent: int, folder: Path | None) -> None:
    """Wait for the end of the parent, even by kill -9, upon which the system gives this process another one; then end.

    Windows does not: there a process ends when it has had no work for a while. What the parent left in files goes.
    """
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    for left in {file.parent for file in _parts} | ({folder} if folder is not None else set()):
        shutil.rmtree(left, ignore_errors=True)
    os._exit(1)
