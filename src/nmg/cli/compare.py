"""nmg compare: maskings and policies over seeds, with the statistics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nmg.cli.console import ProgressConsole
    from nmg.compare.results import ComparisonResults
    from nmg.compare.run import CellEvent, Comparison, Outcome


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
    from nmg.cli.meta_test import split_names
    from nmg.cli.words import required_config
    from nmg.config import load_config

    config, overrides = required_config(config, context.args)
    settings = load_config(config, overrides)

    from nmg.compare.learned import parse_policies
    from nmg.compare.plan import Plan, parse_labelled, parse_steps
    from nmg.compare.results import analyse
    from nmg.compare.run import Comparison
    from nmg.report.comparison_files import write_comparison

    first = settings.run.seed
    plan = Plan(
        maskings=split_names(maskings),
        policies=parse_policies(policies),
        seeds=range(first, first + seeds),
        labelled=(None,) if labelled is None else parse_labelled(labelled),
        adapt_steps=(None,) if adapt_steps is None else parse_steps(adapt_steps),
    )
    with progress_console() as console:
        comparison = Comparison.prepare(settings, plan, out, console)
        outcome = _run(comparison, console)
    results = analyse(comparison.test.config, plan, comparison.test.table_metrics, outcome)
    write_comparison(out, results)
    _show(results, out)
    if outcome.failures:
        raise typer.Exit(1)


def _run(comparison: "Comparison", console: "ProgressConsole") -> "Outcome":
    done, missing = 0, len(comparison.plan.keys()) - len(comparison.found)

    def on_cell(event: "CellEvent") -> None:
        nonlocal done
        if not event.was_there:
            done += 1
            console.notify(_line(event))
            console.overall(f"cell {done}/{missing}", done, missing)

    if comparison.found:
        console.notify(f"{len(comparison.found)} cells are there already, {missing} are missing")
    console.overall("masking × seed", 0, missing)
    return comparison.run(on_cell)


def _show(results: "ComparisonResults", out: Path) -> None:
    """Tables and reading on standard output, failures on standard error."""
    from rich import print as show

    from nmg.report.comparison import reading, terminal_tables
    from nmg.report.tables import as_rich

    for title, table in terminal_tables(results):
        show(as_rich(table, title))
    typer.echo(f"{reading(results)}\nresults: {out}/index.html, results.md, results.json, results.csv, results.tex")
    for name, problem in results.failures.items():
        typer.secho(f"failed: {name}: {problem} ({out}/cells/{name}.error.txt)", fg=typer.colors.RED, err=True)


def _line(event: "CellEvent") -> str:
    if event.cell is None:
        return f"{event.key.name}  failed: {event.problem}"
    score = "  ".join(f"{name} {value:.4f}" for name, value in event.cell.scores.items())
    return f"{event.key.name}  {score}  {event.cell.total_seconds:.0f} s"
