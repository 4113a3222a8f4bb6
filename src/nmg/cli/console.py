"""What the user sees while a command works: bars with the time left, and lines that stay."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from nmg import reporter
from nmg.errors import printable
from nmg.together import is_first_process


class ProgressConsole:
    """A `Reporter` on the terminal: an overall bar, and under it one for the phase at work."""

    def __init__(self, progress: Progress) -> None:
        """`progress`: not yet started; the first phase starts it, so that an error before is the first line."""
        self._progress = progress
        self._phase = progress.add_task("starting", total=None, visible=False)
        self._overall = progress.add_task("", total=None, visible=False)

    def notify(self, line: str) -> None:
        self._progress.console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def show(self, table: Table) -> None:
        self._progress.console.print(table)

    def steps(self, phase: str) -> reporter.Progress:
        self._progress.start()
        self._progress.reset(self._phase, description=phase, total=None, visible=True)

        def advance(done: int, total: int) -> None:
            self._progress.update(self._phase, completed=done, total=total, visible=done < total)

        return advance

    def overall(self, description: str, done: float, total: float) -> None:
        """Move the bar of the whole command; its time left follows from its pace."""
        self._progress.start()
        self._progress.update(self._overall, description=description, completed=done, total=total, visible=True)


@contextmanager
def progress_console() -> Iterator[ProgressConsole]:
    """Bars on standard error, so that standard output holds only results."""
    _quiet_libraries()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    # Episodes and cells take a while each: the pace is judged over minutes.
    console = Console(stderr=True, quiet=not is_first_process())
    progress = Progress(*columns, console=console, speed_estimate_period=600)
    try:
        yield ProgressConsole(progress)
    finally:
        progress.live.stop()
        if not console.is_terminal and any(task.visible for task in progress.tasks):
            console.line()  # ends that of the bar; `progress.stop` would print it without a bar, too


def _quiet_libraries() -> None:
    """The libraries' own bars and hints would break ours."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
