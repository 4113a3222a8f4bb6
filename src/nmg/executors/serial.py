"""Executor that runs jobs one after another in this process."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from nmg.executors.base import Worker


class SerialExecutor(AbstractContextManager["SerialExecutor"]):
    """Runs jobs one after another on the worker of this process."""

    processes = 1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def map_unordered(self, shared: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Run each job in order and yield `(index of the job, result)`."""
        for index, job in enumerate(jobs):
            yield index, self._worker.run(shared, job)

    def close(self) -> None:
        """Do nothing, because no process was started."""
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
