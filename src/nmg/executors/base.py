"""Protocols of executors, which run independent jobs: the inner loops of an episode or the trials of a comparison.

A job runs on a worker, which holds what all jobs need (model, data). An executor that uses other processes opens one
worker in each. Data sent between processes is pickled and never stored permanently.
"""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias


class Worker(Protocol):
    """Runs jobs in one process."""

    def run(self, shared: Any, job: Any) -> Any:
        """Run one job and return its result.

        Args:
            shared: Data that is the same for all jobs of one executor call.
            job: The job to run.

        Returns:
            The result of the job.
        """
        ...


WorkerFactory: TypeAlias = Callable[[int], Worker]
"""Function from a number of torch threads to a new worker. It runs in another process, so it must be picklable."""


class Executor(Protocol):
    """Runs independent jobs and returns their results as they complete."""

    processes: int
    """Number of jobs that run at the same time."""

    def map_unordered(self, shared: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Run all jobs and yield `(index of the job, result)` as each job completes.

        Results are bit-identical to those of any other executor with the same number of threads per job.

        Args:
            shared: Data that all jobs of this call share.
            jobs: The jobs to run.

        Raises:
            UserError: If a process is killed, for example because the system is out of memory.
        """
        ...

    def close(self) -> None:
        """Stop all started processes. The next `map_unordered` starts them again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
