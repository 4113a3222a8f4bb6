"""Renders the page of a meta-training run from the run's folder."""

from pathlib import Path

from nmg.base.errors import UserError, shown
from nmg.meta_training.log import RunLog, read_run
from nmg.report.html import render_html
from nmg.report.run_page import run_page


def render_run(run: Path, watch: int | None = None) -> tuple[RunLog, str]:
    """Return the log of a run's folder and its page as HTML.

    `watch` is the interval in seconds at which the browser reloads the page; None for never. Raises UserError for a log
    that is damaged or was not written by a meta-training run, because the folder may come from anywhere.
    """
    try:
        log = read_run(run)
        html = render_html(run_page(log, watch))
        html.encode()  # raises ValueError for a lone surrogate in the log, which cannot be written
        return log, html
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(
            f"{run}: this log cannot be shown, because it is damaged or was not written by this version of nmg "
            f"({type(error).__name__}: {shown(str(error))})"
        ) from error
