"""What an engine is: it plays independent jobs, the inner loops of an episode or the cells of a comparison.

A job is played at a workplace, which holds what all jobs need (model, data). An engine that plays in other processes
has a workplace opened in each; what crosses the border is pickled among our own processes and never kept.
"""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self


class Workplace(Protocol):
    def play(self, shared: Any, job: Any) -> Any:
        """The result of a job. `shared` is the same for all jobs of one call of an engine."""
        ...


class Opener(Protocol):
    """Makes a workplace in another process; can be pickled."""

    def open(self, threads: int) -> Workplace: ...


class Engine(Protocol):
    processes: int
    """jobs at once"""

    def play(self, shared: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """(index of a job, its result), each as soon as it is there.

        The same results to the bit as any other engine with as many threads a job. Raises UserError when a process is
        killed (by the system, for memory).
        """
        ...

    def close(self) -> None:
        """End what was started; the next `play` starts it anew."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
