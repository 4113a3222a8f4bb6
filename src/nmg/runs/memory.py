"""How much memory this process and those that it starts hold at most."""

import threading
from contextlib import AbstractContextManager
from types import TracebackType

import psutil

MIB = 2**20
INTERVAL = 0.1
"""seconds between two looks"""
LOOKS = 20
"""before processes are looked for again: that takes longer, the more the machine has"""


class PeakMemory(AbstractContextManager["PeakMemory"]):
    """Looks at it from a thread while the block runs.

    Resident memory of the processes is added up, so what they share (the libraries' code) counts in each.
    """

    def __init__(self) -> None:
        self.mib = 0.0
        self._processes: list[psutil.Process] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def look(self) -> float:
        """MiB held now."""
        held = 0
        for process in self._processes:
            try:
                held += process.memory_info().rss
            except psutil.Error:  # it has just ended
                continue
        self.mib = max(self.mib, held / MIB)
        return held / MIB

    def find(self) -> None:
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
