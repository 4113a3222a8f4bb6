"""What a process of `ProcessEngine` does. It imports nothing heavy at first: its watch begins before torch loads."""

import os
import pickle
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmg.engines.base import Workplace

LOOK_SECONDS = 1.0

_workplace: "Workplace"
"""of this process"""
_parts: dict[Path, Any] = {}
"""file → what it holds, of the last job"""


def open_workplace(opener: bytes, threads: int, parent: int) -> None:
    """Get ready to play. `parent`: id of the process that started this one, which ends with it."""
    global _workplace  # noqa: PLW0603 the process has this one purpose
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    _workplace = pickle.loads(opener).open(threads)


def play(job: bytes, whole: type | None, *files: Path) -> bytes:
    """`whole` and the `files` with its parts: as from `take_apart`."""
    global _parts  # noqa: PLW0603 as above
    _parts = {file: _parts[file] if file in _parts else pickle.loads(file.read_bytes()) for file in files}
    shared = put_together(whole, [_parts[file] for file in files])
    return pack(_workplace.play(shared, pickle.loads(job)))


def take_apart(shared: Any) -> tuple[type | None, Sequence[Any]]:
    """The parts of a named tuple, and its type; of anything else, itself alone."""
    return (type(shared), shared) if hasattr(shared, "_fields") else (None, [shared])


def put_together(whole: type | None, parts: Sequence[Any]) -> Any:
    return parts[0] if whole is None else whole(*parts)


def pack(value: Any) -> bytes:
    """Bytes for another of our own processes.

    Left to itself, multiprocessing would hand tensors over in shared memory, of which containers have little.
    """
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def _end_with(parent: int) -> None:
    """Wait for the end of the parent, even by kill -9, upon which the system gives this process another one; then end.

    Windows does not: there a process ends when it has had no work for a while.
    """
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
