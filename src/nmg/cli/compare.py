"""`nmg compare`: compares maskings and policies over seeds, with statistics."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nmg.cli.console import ProgressConsole
    from nmg.comparison.grid import GridResults
    from nmg.comparison.results import ComparisonResults
    from nmg.comparison.trials import CellEvent
    from nmg.config import Config


def compare(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML). Several files make a grid.")],
    out: Annotated[Path, typer.Option(help="Folder of the comparison. An interrupted one continues.")],
    maskings: Annotated[str, typer.Option(help="Names of maskings, separated by commas.")] = "none,random,whole-word",
    policies: Annotated[
        str, typer.Option(help="Folders of runs or policies, separated by commas, each FOLDER or NAME=FOLDER.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, starting at --run.seed.")] = 5,
    shots: Annotated[
        str | None,
        typer.Option(help="Learning curve over labelled examples (per class in classification), e.g. 4,16,64,all."),
    ] = None,
    adapt_steps: Annotated[
        str | None, typer.Option(help="Learning curve over adaptation steps, e.g. 50,100,200.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Models of a grid, separated by commas, each MODEL or NAME=MODEL.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Masking that a grid tests all others against. Default: random.")
    ] = None,
) -> None:
    """Compare maskings over seeds: means, intervals, tests of every pair, costs, learning curves.

    Each masking with each seed is a cell, which runs once and is saved in OUT/cells. Run the command again to continue
    after an interruption, to retry failed cells, or to add seeds and maskings. Several configurations or --models make
    a grid, with one comparison per folder OUT/NAME and a common table in OUT. Any setting can be overridden:
    --section.field value.
    """
    from nmg.base.errors import UserError
    from nmg.cli.words import named_configs, named_models, required_configs, split_names
    from nmg.config import load_config

    words, overrides = required_configs(config, context.args)
    is_grid = len(words) > 1 or models is not None
    if baseline is not None and not is_grid:
        raise UserError(
            "--baseline needs a grid: give several configurations or --models (one comparison tests all pairs)"
        )
    files = named_configs(words) if is_grid else {"": Path(words[0])}
    configs = {name: load_config(file, overrides) for name, file in files.items()}

    from nmg.comparison.plan import parse_labelled, parse_steps
    from nmg.policies.maskings import parse_policies

    names, places = split_names(maskings), named_models(models) if models is not None else {}
    shared: dict[str, Any] = {
        "policies": parse_policies(policies.split(","), "--policies"),
        "seeds": seeds,
        "labelled": (None,) if shots is None else parse_labelled(shots),
        "adapt_steps": (None,) if adapt_steps is None else parse_steps(adapt_steps),
    }
    if is_grid:
        _run_grid(configs, names, out, models=places, base=baseline, **shared)
    else:
        _run(configs[""], names, out, **shared)


def _run(config: "Config", maskings: list[str], out: Path, **shared: Any) -> None:
    from nmg.cli.console import progress_console
    from nmg.jobs.compare import compare as run_comparison

    with progress_console() as console:
        results = run_comparison(config, maskings, out, reporter=console, on_cell=show_cells(console), **shared)
    show_results(results, out)
    if results.failures:
        raise typer.Exit(1)


def _run_grid(configs: "dict[str, Config]", maskings: list[str], out: Path, **shared: Any) -> None:
    from nmg.cli.console import progress_console
    from nmg.jobs.compare import compare_grid

    with progress_console() as console:
        of_part = defaultdict[str, "Callable[[CellEvent, int], None]"](lambda: show_cells(console))

        def on_cell(part: str, event: "CellEvent", missing: int) -> None:
            of_part[part](event, missing)

        grid = compare_grid(configs, maskings, out, reporter=console, on_cell=on_cell, **shared)
    _show_grid(grid, out)
    if grid.failures:
        raise typer.Exit(1)


def show_cells(console: "ProgressConsole") -> "Callable[[CellEvent, int], None]":
    """Return a callback that prints each new cell and updates the overall progress bar."""
    done = 0

    def on_cell(event: "CellEvent", missing: int) -> None:
        nonlocal done
        if not event.was_there:
            done += 1
            console.notify(event.line())
        console.overall(f"cell {done}/{missing}", done, missing)

    return on_cell


def show_results(results: "ComparisonResults", out: Path) -> None:
    """Print tables and summary to standard output and failures to standard error, on the main process only."""
    from nmg.base.distributed import is_main_process

    if not is_main_process():
        return
    from nmg.report.comparison import reading, terminal_tables
    from nmg.report.terminal import notes_once, show

    show(notes_once(terminal_tables(results)))
    typer.echo(f"{reading(results)}\nresults: {out}/index.html, results.md, results.json, results.csv, results.tex")
    for name, problem in results.failures.items():
        typer.secho(f"failed: {name}: {problem} ({out}/cells/{name}.error.txt)", fg=typer.colors.RED, err=True)


def _show_grid(grid: "GridResults", out: Path) -> None:
    """Print tables and summary to standard output and failures to standard error, on the main process only."""
    from nmg.base.distributed import is_main_process

    if not is_main_process():
        return
    from nmg.report.grid import reading, terminal_tables
    from nmg.report.terminal import notes_once, show

    show(notes_once(terminal_tables(grid)))
    typer.echo(f"{reading(grid)}\nresults: {out}/index.html, grid.md, grid.json, grid.csv, grid.tex")
    for name, problem in grid.failures.items():
        part, _, cell = name.partition("/")
        file = out / part / "cells" / f"{cell}.error.txt" if cell else out / f"{part}.error.txt"
        typer.secho(f"failed: {name}: {problem} ({file})", fg=typer.colors.RED, err=True)
