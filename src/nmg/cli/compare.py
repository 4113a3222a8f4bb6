"""nmg compare: maskings and policies over seeds, with the statistics."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nmg.cli.console import ProgressConsole
    from nmg.comparison.cells import CellEvent
    from nmg.comparison.results import ComparisonResults


def compare(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML).")],
    out: Annotated[Path, typer.Option(help="Folder of the comparison; one that was interrupted goes on.")],
    maskings: Annotated[str, typer.Option(help="Names separated by commas.")] = "none,random,whole-word",
    policies: Annotated[
        str, typer.Option(help="Run or policy folders separated by commas, each FOLDER or NAME=FOLDER.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counted up from --run.seed.")] = 5,
    labelled: Annotated[
        str | None,
        typer.Option(help="Learning curve: labelled examples (of each class in a classification), e.g. 4,16,64,all."),
    ] = None,
    adapt_steps: Annotated[str | None, typer.Option(help="Learning curve: adaptation steps, e.g. 50,100,200.")] = None,
) -> None:
    """Compare maskings over seeds: means, intervals, tests of every pair, costs, learning curves.

    Each masking with each seed is a cell that is run once and kept in OUT/cells; call again to go on after an
    interruption, to try failed cells again, or to add seeds and maskings. Any setting can be overridden:
    --section.field value.
    """
    from nmg.cli.console import progress_console
    from nmg.cli.words import required_config, split_names
    from nmg.config import load_config

    config, overrides = required_config(config, context.args)
    settings = load_config(config, overrides)

    from nmg.comparison.plan import parse_labelled, parse_steps
    from nmg.policies.named import parse_policies
    from nmg.report.comparison_files import compare as run_comparison

    named = parse_policies(policies.split(","), "--policies")
    counts = (None,) if labelled is None else parse_labelled(labelled)
    steps = (None,) if adapt_steps is None else parse_steps(adapt_steps)
    with progress_console() as console:
        results = run_comparison(
            settings,
            split_names(maskings),
            out,
            policies=named,
            seeds=seeds,
            labelled=counts,
            adapt_steps=steps,
            reporter=console,
            on_cell=show_cells(console),
        )
    show_results(results, out)
    if results.failures:
        raise typer.Exit(1)


def show_cells(console: "ProgressConsole") -> "Callable[[CellEvent, int], None]":
    """Says each new cell, and moves the bar of the whole."""
    done = 0

    def on_cell(event: "CellEvent", missing: int) -> None:
        nonlocal done
        if not event.was_there:
            done += 1
            console.notify(event.line())
        console.overall(f"cell {done}/{missing}", done, missing)

    return on_cell


def show_results(results: "ComparisonResults", out: Path) -> None:
    """Tables and reading on standard output, failures on standard error; said once by processes that train together."""
    from nmg.together import is_first_process

    if not is_first_process():
        return
    from rich import print as show

    from nmg.report.comparison import reading, terminal_tables
    from nmg.report.tables import as_rich

    for title, table in terminal_tables(results):
        show(as_rich(table, title))
    typer.echo(f"{reading(results)}\nresults: {out}/index.html, results.md, results.json, results.csv, results.tex")
    for name, problem in results.failures.items():
        typer.secho(f"failed: {name}: {problem} ({out}/cells/{name}.error.txt)", fg=typer.colors.RED, err=True)
