"""Renders the page of a meta-training run or an adaptation from its folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmg.adaptation.log import AdaptationLog
from nmg.base.errors import UserError, shown
from nmg.meta_training.log import RunLog, read_run
from nmg.report.adaptation_page import adaptation_page
from nmg.report.document import Document
from nmg.report.html import render_html
from nmg.report.run_page import run_page


def render_run(run: Path, watch: int | None = None) -> tuple[RunLog, str]:
    """Return the log of a run's folder and its page as HTML.

    `watch` is the interval in seconds at which the browser reloads the page; None for never. Raises UserError for a log
    that is damaged or was not written by a meta-training run, because the folder may come from anywhere.
    """
    with damage_named(run):
        log = read_run(run)
        return log, page_text(run_page(log, watch))


def render_adaptation(folder: Path, watch: int | None = None) -> tuple[AdaptationLog, str]:
    """Return the log of an adaptation's folder and its page as HTML.

    `watch` is the interval in seconds at which the browser reloads the page; None for never. Raises UserError for a
    damaged log.
    """
    with damage_named(folder):
        log = AdaptationLog.read(folder)
        return log, page_text(adaptation_page(log, watch))


def page_text(page: Document) -> str:
    """Return a page as HTML. Raises ValueError for a lone surrogate in a log, which cannot be written."""
    html = render_html(page)
    html.encode()
    return html


@contextmanager
def damage_named(run: Path) -> Iterator[None]:
    """Raise UserError instead of the errors that a damaged log causes."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(
            f"{run}: this log cannot be shown, because it is damaged or was not written by this version of nmg "
            f"({type(error).__name__}: {shown(str(error))})"
        ) from error
