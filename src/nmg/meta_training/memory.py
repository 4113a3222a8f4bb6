"""Measures the peak memory of this process and its child processes."""

import threading
from contextlib import AbstractContextManager
from types import TracebackType

import psutil

MIB = 2**20
INTERVAL = 0.1
"""Seconds between two measurements."""
LOOKS = 20
"""Number of measurements between two searches for child processes; a search is slow if many processes run."""


class PeakMemory(AbstractContextManager["PeakMemory"]):
    """Context manager that measures peak memory in a background thread until it exits.

    The resident memory of this process and its child processes is summed, so shared pages such as library code count
    once per process.
    """

    def __init__(self) -> None:
        self.mib = 0.0
        """Peak resident memory so far, in MiB."""
        self._processes: list[psutil.Process] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def look(self) -> float:
        """Return the current resident memory in MiB, and update the peak."""
        held = 0
        for process in self._processes:
            try:
                held += process.memory_info().rss
            except psutil.Error:  # the process has just ended
                continue
        self.mib = max(self.mib, held / MIB)
        return held / MIB

    def find(self) -> None:
        """Update the list of child processes."""
        this = psutil.Process()
        self._processes = [this, *this.children(recursive=True)]

    def __enter__(self) -> "PeakMemory":
        self.find()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        looks = 0
        while not self._ended.wait(INTERVAL):
            looks += 1
            if looks % LOOKS == 0:
                self.find()
            self.look()
