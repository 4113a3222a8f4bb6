"""Runs a whole grid of comparisons and writes its files: grid.json, grid.md, grid.csv, grid.tex and index.html."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nmg.base.distributed import as_one, described, is_main_process
from nmg.base.errors import UserError
from nmg.base.files import write_text
from nmg.base.outputs import check_output, output_lock
from nmg.base.progress import Reporter, Silent
from nmg.comparison.grid import GridResults, Part, analyse_grid, chosen_base, parts_of
from nmg.comparison.plan import Plan
from nmg.comparison.run import Comparison
from nmg.comparison.trials import CellEvent, Labelled
from nmg.config import Config
from nmg.report.comparison_files import compare
from nmg.report.grid import reading, scopes, titled_tables
from nmg.report.grid_page import grid_page
from nmg.report.latex import titled_latex
from nmg.report.page import write_page
from nmg.report.tables import titled_markdown


def compare_grid(
    configs: Mapping[str, Config],
    maskings: Sequence[str],
    out: Path,
    *,
    models: Mapping[str, str] | None = None,
    base: str | None = None,
    policies: Mapping[str, Path] | None = None,
    seeds: int = 5,
    labelled: Sequence[Labelled] = (None,),
    adapt_steps: Sequence[int | None] = (None,),
    reporter: Reporter | None = None,
    on_cell: Callable[[str, CellEvent, int], None] = lambda _part, _event, _missing: None,
) -> GridResults:
    """Run `compare` for every configuration with every model, each in a separate folder in `out`.

    A comparison that fails does not stop the others. The arguments not listed here are those of `compare`.

    Args:
        configs: Name → settings.
        models: Name → folder or hub name; None uses the model of each configuration.
        base: The masking that all others are tested against; None means `random` or else the first masking.
        policies: Name → folder; each policy is used only with the models that it fits.
        on_cell: Called with the comparison, the cell's event and the number of cells missing at the start.

    Raises:
        UserError: Invalid input or output; raised before any training.
    """
    reporter = reporter or Silent()
    if not configs:
        raise UserError("a grid needs at least one configuration")
    results, failed = {}, {}
    curves: dict[str, Any] = {"labelled": labelled, "adapt_steps": adapt_steps}
    with as_one(), output_lock(out):
        parts = parts_of(configs, models or {}, maskings, policies or {})
        base = chosen_base(base, parts)
        if not any((out / part.name).is_dir() for part in parts) and not (out / "grid.json").is_file():
            check_output(out, "something else than a grid")
        for part in parts:
            _check(part, out, seeds, curves)
        for number, part in enumerate(parts, start=1):
            reporter.notify(f"comparison {number} of {len(parts)}: {part.name}")
            of_part = {"seeds": seeds, "reporter": reporter, "on_cell": partial(on_cell, part.name), **curves}
            try:
                results[part.name] = compare(
                    part.config, part.maskings, out / part.name, policies=part.policies, **of_part
                )
                if is_main_process():
                    _error_file(out, part).unlink(missing_ok=True)
            except Exception as error:
                failed[part.name] = _save_error(out, part, error)
                reporter.notify(f"{part.name}  failed: {failed[part.name]}")
        grid = analyse_grid(base, parts, results, failed)
        if is_main_process():
            write_grid(out, grid)
    return grid


def _check(part: Part, out: Path, seeds: int, curves: Mapping[str, Any]) -> None:
    """Check a comparison before any training. Raises UserError with the name of the comparison."""
    first = part.config.run.seed
    try:
        plan = Plan.of(part.maskings, part.policies, range(first, first + seeds), **curves)
        Comparison.open(part.config, plan, out / part.name, Silent())
    except UserError as error:
        raise UserError(f"{part.name}: {error}") from error


def _error_file(out: Path, part: Part) -> Path:
    return out / f"{part.name}.error.txt"


def _save_error(out: Path, part: Part, error: Exception) -> str:
    """Save the traceback; returns the problem in one line."""
    problem, report = described(error)
    with as_one():
        if is_main_process():
            write_text(_error_file(out, part), report)
    return problem


def write_grid(out: Path, grid: GridResults) -> None:
    """Write all files of a grid; each is replaced atomically."""
    write_text(out / "grid.json", json.dumps(grid.to_json(), indent=1, allow_nan=False) + "\n")
    write_text(out / "grid.md", markdown(grid))
    write_text(out / "grid.csv", scores_csv(grid))
    write_text(out / "grid.tex", latex(grid))
    write_page(out / "index.html", grid_page(grid))


def markdown(grid: GridResults) -> str:
    """Return the content of grid.md: summary, scopes and all tables."""
    return titled_markdown("\n\n".join([reading(grid), *scopes(grid)]), titled_tables(grid))


def latex(grid: GridResults) -> str:
    """Return the content of grid.tex: all tables."""
    return titled_latex(titled_tables(grid))


_TEST = ("t_p", "wilcoxon_p", "effect_size")
_HEADER = (
    *("comparison", "data", "model", "labelled", "adapt_steps", "masking", "metric", "n", "mean", "deviation", "low"),
    *("high", "base", "difference", "difference_low", "difference_high", *_TEST, "t_p_holm", "wilcoxon_p_holm"),
)


def scores_csv(grid: GridResults) -> str:
    """Return the content of grid.csv: one line per comparison, condition and masking; undefined values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _HEADER, lineterminator="\n")
    writer.writeheader()
    for family in grid.families:
        for part in family.parts:
            for condition in family.settings:
                for name, one in family.maskings(part, condition).items():
                    facts = {"comparison": part.name, "data": part.data, "model": part.model, **vars(condition)}
                    facts |= {"masking": name, "metric": family.metric, **vars(one.estimates[family.metric])}
                    if pair := family.difference(part, condition, name):
                        test = pair.test
                        facts |= {"base": pair.second, "difference": test.mean}
                        facts |= {"difference_low": test.low, "difference_high": test.high}
                        facts |= {name: getattr(test, name) for name in _TEST}
                        facts |= {"t_p_holm": pair.t_p_holm, "wilcoxon_p_holm": pair.wilcoxon_p_holm}
                    writer.writerow(facts)
    return text.getvalue()
