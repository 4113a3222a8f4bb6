"""Code that runs in each process of `ProcessExecutor`.

It imports no large package at first, because the thread that watches the parent process must start before torch loads.
"""

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

from nmg.executors.shared import join_shared, pack

if TYPE_CHECKING:
    from nmg.executors.base import Worker

LOOK_SECONDS = 1.0
"""Seconds between two checks whether the parent process is alive."""

_locks: list[FileLock] = []
"""Locks that this process holds until it ends."""

_worker: "Worker"
"""Worker of this process."""
_parts: dict[Path, Any] = {}
"""Shared parts of the last job, by file."""


def open_worker(factory: bytes, threads: int, parent: int, gpus: Sequence[str], folder: Path | None) -> None:
    """Initialise this process and create its worker.

    Args:
        factory: Pickled factory, which opens the worker.
        threads: Number of torch threads of this process.
        parent: ID of the parent process. This process ends when the parent ends.
        gpus: GPUs of this machine, by their names in CUDA_VISIBLE_DEVICES. This process uses one of them.
        folder: Folder with the lock files that assign GPUs to processes, or None without GPUs.
    """
    global _worker  # noqa: PLW0603 the process has this one purpose
    threading.Thread(target=_end_with, args=(parent, folder), daemon=True).start()
    if gpus and folder is not None:  # before torch loads, because torch reads the variable once
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[_free_number(folder) % len(gpus)]
    logging.getLogger("nmg").setLevel(logging.ERROR)  # the main process has already issued the warnings
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the main process ends the others
    _worker = pickle.loads(factory)(threads)


def run(job: bytes, whole: type | None, *files: Path) -> bytes:
    """Run one pickled job and return its pickled result.

    Args:
        job: The pickled job.
        whole: Type of the shared data (see `split_shared`).
        *files: Files with the pickled parts of the shared data.

    Returns:
        The pickled result.
    """
    global _parts  # noqa: PLW0603 as above
    _parts = {file: _parts[file] if file in _parts else pickle.loads(file.read_bytes()) for file in files}
    shared = join_shared(whole, [_parts[file] for file in files])
    return pack(_worker.run(shared, pickle.loads(job)))


def _free_number(folder: Path) -> int:
    """Return the lowest number that no other running process has. The file lock is released when this process ends."""
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
    """Wait until the parent process ends, even if killed, then delete its files and end this process.

    The system assigns a new parent to a process whose parent ends. Windows does not, so there a process ends after
    `IDLE_SECONDS` without a job.
    """
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    for left in {file.parent for file in _parts} | ({folder} if folder is not None else set()):
        shutil.rmtree(left, ignore_errors=True)
    os._exit(1)
