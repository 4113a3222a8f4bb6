"""`nmg demo`: runs the whole workflow on data and a model from installed packages."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for policies, adapted models, metrics and the page.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the data and of the runs.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of the comparison.")] = 5,
) -> None:
    """Learn masks for BBC News, compare them with no adaptation, random masks and a rule, and write a page.

    Nothing is downloaded. A second call continues an interrupted demo. The demo needs packages with texts and a model,
    and says how to install them. Settings can be overridden: --section.field value.
    """
    from nmg.jobs.console import progress_console

    with progress_console() as console:
        from nmg.demo.run import run_demo

        run_demo(out, seed, seeds, context.args, console)
    typer.echo(f"page: {out}/index.html\nall scores: {out}/results\nnow with your data: nmg init YOUR.csv")
