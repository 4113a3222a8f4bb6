"""`nmg report`: writes the page of a meta-training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nmg.meta_training.log import RunLog


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run of meta-train, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="File of the page; RUN/report.html where not given.")] = None,
    watch: Annotated[
        int | None, typer.Option(min=1, help="Write the page again every so many seconds until the run is finished.")
    ] = None,
) -> None:
    """Write the page of a meta-training: scores, rewards, credit, the policy's state, time, and sample masks.

    Works during the run. With --watch, an open page also reloads itself.
    """
    import time

    from nmg.base.files import write_text
    from nmg.base.outputs import check_file

    out = out or run / "report.html"
    check_file(out)
    said = None
    while True:
        log, html = page_of(run, watch)
        write_text(out, html)
        if said != len(log.episodes):
            said = len(log.episodes)
            typer.echo(f"{out}: {said} of {log.planned_episodes} episodes")
        if watch is None or log.is_finished:
            return
        time.sleep(watch)


def page_of(run: Path, watch: int | None) -> "tuple[RunLog, str]":
    """Return the log of a run's folder and its page as HTML.

    `watch`: interval in seconds at which the browser reloads the page, or None. Raises UserError for a log that is
    damaged or was not written by a meta-training, because the folder may come from anywhere.
    """
    from nmg.base.errors import UserError, shown
    from nmg.meta_training.log import read_run
    from nmg.report.page import render_page
    from nmg.report.run_page import run_page

    try:
        log = read_run(run)
        html = render_page(run_page(log, watch))
        html.encode()  # raises ValueError for a lone surrogate in the log, which cannot be written
        return log, html
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(
            f"{run}: no page can be made of this log; it is damaged, or not of this nmg "
            f"({type(error).__name__}: {shown(str(error))})"
        ) from error
