"""Terminal output during a command: progress bars with the remaining time, and permanent lines."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from nmg.base import progress as reporter
from nmg.base.distributed import is_main_process
from nmg.base.errors import printable


class ProgressConsole:
    """A `Reporter` on the terminal with two progress bars: one for the whole command and one for the current phase."""

    def __init__(self, progress: Progress) -> None:
        """Create a console for `progress`, which must not be started.

        The first phase starts it, so that no bar is shown before an early error.
        """
        self._progress = progress
        self._phase = progress.add_task("starting", total=None, visible=False)
        self._overall = progress.add_task("", total=None, visible=False)

    def notify(self, line: str) -> None:
        """Print a permanent line."""
        self._progress.console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def show(self, table: Table) -> None:
        """Print a table."""
        self._progress.console.print(table)

    def steps(self, phase: str) -> reporter.Progress:
        """Start the bar of the named phase and return the callback that updates it."""
        self._progress.start()
        self._progress.reset(self._phase, description=phase, total=None, visible=True)

        def advance(done: int, total: int) -> None:
            self._progress.update(self._phase, completed=done, total=total, visible=done < total)

        return advance

    def overall(self, description: str, done: float, total: float) -> None:
        """Update the bar of the whole command. The remaining time is estimated from its speed.

        Args:
            description: Text next to the bar.
            done: Amount of work done.
            total: Total amount of work, in the unit of `done`.
        """
        self._progress.start()
        self._progress.update(self._overall, description=description, completed=done, total=total, visible=True)


@contextmanager
def progress_console() -> Iterator[ProgressConsole]:
    """Provide a console with progress bars on standard error; standard output contains only results."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    # Episodes and trials are long, so the speed is estimated over several minutes.
    console = Console(stderr=True, quiet=not is_main_process())
    progress = Progress(*columns, console=console, speed_estimate_period=600)
    try:
        with quiet_libraries():
            yield ProgressConsole(progress)
    finally:
        progress.live.stop()
        if not console.is_terminal and any(task.visible for task in progress.tasks):
            console.line()  # ends the bar's line; `progress.stop` would print a line even without a bar


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Disable the progress bars and hints of other libraries for a while; they would disturb the bars of nmg."""
    from transformers.utils import logging as transformers_logging

    hub = logging.getLogger("huggingface_hub")
    had_bars, verbosity, level = (
        transformers_logging.is_progress_bar_enabled(),
        transformers_logging.get_verbosity(),
        hub.level,
    )
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    hub.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
            yield
    finally:
        if had_bars:
            transformers_logging.enable_progress_bar()
        transformers_logging.set_verbosity(verbosity)
        hub.setLevel(level)
