"""`nmg report`: writes an HTML report of a run of `nmg learn` or `nmg adapt`."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of learn or adapt; with adapt --auto, of a finished run.")],
    out: Annotated[
        Path | None, typer.Option(help="File of the page. Default: RUN/report.html, or RUN/index.html for adapt.")
    ] = None,
    watch: Annotated[
        int | None, typer.Option(min=1, help="Rewrite the page every N seconds until the run is finished.")
    ] = None,
) -> None:
    """Write an HTML report of a run of nmg learn: scores, rewards, credit, the policy's state, time, and sample masks.

    For an adaptation: losses, what was masked, and guesses before and after. The run may still be in progress.
    For nmg adapt --auto: the decision and what it rests on.
    With --watch, an open page reloads itself.
    """
    import time

    from nmg.auto.folder import is_auto
    from nmg.base.files import write_text
    from nmg.base.outputs import check_file

    out = out or run / ("index.html" if is_auto(run) or _is_adaptation(run) else "report.html")
    check_file(out)
    said = None
    while True:
        progress, is_finished, html = _page(run, watch)
        write_text(out, html)
        if said != progress:
            said = progress
            typer.echo(f"{out}: {progress}")
        if watch is None or is_finished:
            return
        time.sleep(watch)


def _is_adaptation(run: Path) -> bool:
    """Return whether the folder is that of an adaptation."""
    from nmg.adaptation.folder import AdaptationFolder

    return AdaptationFolder(run).is_begun


def _page(run: Path, watch: int | None) -> tuple[str, bool, str]:
    """Return how much of a run is done, whether it is finished, and its page as HTML."""
    from nmg.auto.folder import is_auto
    from nmg.auto.run import render_auto
    from nmg.report.run_files import render_adaptation, render_run

    if is_auto(run):
        return "the decision", True, render_auto(run)
    if _is_adaptation(run):
        adaptation, html = render_adaptation(run, watch)
        return adaptation.progress, adaptation.is_finished, html
    log, html = render_run(run, watch)
    return f"{len(log.episodes)} of {log.planned_episodes} episodes", log.is_finished, html
