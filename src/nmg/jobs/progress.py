"""Progress of a Python call: bars in a terminal or a notebook, or messages to a reporter of the caller."""

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from nmg.base import progress
from nmg.base.distributed import is_main_process
from nmg.base.errors import printable
from nmg.jobs.console import progress_console, quiet_libraries

SECONDS = 0.25
"""Minimum time between two updates of the bars in a notebook."""


@runtime_checkable
class JobProgress(progress.Reporter, Protocol):
    """A reporter that also shows how much of the whole job is done."""

    def overall(self, description: str, done: float, total: float) -> None:
        """Show that `done` of `total` are done, with a description."""


@contextmanager
def job_progress(is_shown: bool, reporter: progress.Reporter | None) -> Iterator[JobProgress]:
    """Provide the progress of a job, and silence the bars of other libraries meanwhile.

    Args:
        is_shown: Whether to show bars if there is a terminal or a notebook.
        reporter: Receives messages and phases instead and, if it is a `JobProgress`, how much is done. None for bars.

    Yields:
        The progress.
    """
    with quiet_libraries():
        if reporter is not None:
            yield reporter if isinstance(reporter, JobProgress) else Messages(reporter)
        elif not is_shown or not is_main_process():
            yield Messages(progress.Silent())
        elif is_notebook():
            with _notebook_bars() as bars:
                yield bars
        elif sys.stderr.isatty():
            with progress_console() as console:
                yield console
        else:
            yield Messages(progress.Silent())


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    if "IPython" not in sys.modules:
        return False
    return getattr(sys.modules["IPython"].get_ipython(), "kernel", None) is not None


class Messages:
    """Progress without a bar of the whole job: the bar of a caller shows more than this job, or there is none."""

    def __init__(self, reporter: progress.Reporter) -> None:
        """Pass messages and phases to a reporter."""
        self.notify, self.steps = reporter.notify, reporter.steps

    def overall(self, description: str, done: float, total: float) -> None:
        """Ignore the progress of the job, which the caller gets from callbacks."""


@contextmanager
def _notebook_bars() -> Iterator["NotebookBars"]:
    """Provide bars in the output of a cell, which end with the job."""
    from IPython.display import HTML, display

    shown = display(HTML(""), display_id=True)
    try:
        yield NotebookBars(lambda text: shown.update(HTML(text)))
    finally:
        shown.update(HTML(""))


class NotebookBars:
    """Two bars as HTML: one for the whole job and one for the current phase. Needs no widgets."""

    def __init__(self, update: Any) -> None:
        """Create bars that call `update` with their HTML, at most every `SECONDS`."""
        self._update, self._last = update, 0.0
        self._bars: dict[str, tuple[str, float, float]] = {}

    def notify(self, line: str) -> None:
        """Print a permanent line."""
        print(printable(line))

    def steps(self, phase: str) -> progress.Progress:
        """Start the bar of the named phase and return the callback that updates it."""

        def advance(done: int, total: int) -> None:
            self._show("phase", phase, done, total)

        return advance

    def overall(self, description: str, done: float, total: float) -> None:
        """Update the bar of the whole job."""
        self._show("job", description, done, total)

    def _show(self, bar: str, description: str, done: float, total: float) -> None:
        self._bars[bar] = description, done, total
        now = time.monotonic()
        if now - self._last < SECONDS:
            return
        self._last = now
        lines = [
            f'<div><progress value="{done:g}" max="{total:g}"></progress> {html.escape(text)}</div>'
            for text, done, total in (self._bars[name] for name in ("job", "phase") if name in self._bars)
            if done < total
        ]
        self._update("".join(lines))
