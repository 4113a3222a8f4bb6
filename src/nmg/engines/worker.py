"""What a process of `ProcessEngine` does. It imports nothing heavy at first: its watch begins before torch loads."""

import os
import pickle
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmg.engines.base import Workplace

LOOK_SECONDS = 1.0

_workplace: "Workplace"
"""of this process"""


def open_workplace(opener: bytes, threads: int, parent: int) -> None:
    """Get ready to play. `parent`: id of the process that started this one, which ends with it."""
    global _workplace  # noqa: PLW0603 the process has this one purpose
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    _workplace = pickle.loads(opener).open(threads)


def play(shared: bytes, job: bytes) -> bytes:
    return pack(_workplace.play(pickle.loads(shared), pickle.loads(job)))


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
