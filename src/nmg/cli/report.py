"""`nmg report`: writes an HTML report of a meta-training run."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run of meta-train, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="File of the page. Default: RUN/report.html.")] = None,
    watch: Annotated[
        int | None, typer.Option(min=1, help="Rewrite the page every N seconds until the run is finished.")
    ] = None,
) -> None:
    """Write an HTML report of a meta-training run: scores, rewards, credit, the policy's state, time, and sample masks.

    The run may still be in progress. With --watch, an open page reloads itself.
    """
    import time

    from nmg.base.files import write_text
    from nmg.base.outputs import check_file
    from nmg.report.run_files import render_run

    out = out or run / "report.html"
    check_file(out)
    said = None
    while True:
        log, html = render_run(run, watch)
        write_text(out, html)
        if said != len(log.episodes):
            said = len(log.episodes)
            typer.echo(f"{out}: {said} of {log.planned_episodes} episodes")
        if watch is None or log.is_finished:
            return
        time.sleep(watch)
