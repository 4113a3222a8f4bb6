"""Runs comparisons and grids of comparisons and writes their files: `nmg.compare` and `nmg.compare_grid`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from nmg.comparison.results import ComparisonResults, analyse
from nmg.comparison.run import Comparison, check_folder
from nmg.comparison.trials import CellEvent, Labelled
from nmg.config import Config
from nmg.report.comparison_files import write_comparison
from nmg.report.grid_files import write_grid
from nmg.trials.inputs import SharedInputs


def compare(
    config: Config,
    maskings: Sequence[str],
    out: Path,
    *,
    policies: Mapping[str, Path] | None = None,
    seeds: int = 5,
    labelled: Sequence[Labelled] = (None,),
    adapt_steps: Sequence[int | None] = (None,),
    save_models: bool = False,
    reporter: Reporter | None = None,
    on_cell: Callable[[CellEvent, int], None] = lambda _event, _missing: None,
) -> ComparisonResults:
    """Run every masking with every seed, analyse the cells, and write all files into `out`.

    Cells that an earlier call completed in `out` are reused.

    Args:
        config: Settings shared by all cells; seeds count up from `run.seed`.
        maskings: Names of the maskings to compare.
        out: Folder of the comparison.
        policies: Learned maskings to add: name → folder of a run or policy.
        seeds: Number of seeds.
        labelled: Numbers of labelled examples for learning curves; None means as configured.
        adapt_steps: Numbers of adaptation steps for learning curves; None means as configured.
        save_models: True keeps the adapted models of the first seed under the first condition.
        reporter: Receives progress and messages; None is silent.
        on_cell: Called after each cell with its event and the number of cells that were missing at the start.

    Returns:
        All scores, costs and tests; cells that failed are in `failures`.

    Raises:
        UserError: Invalid input or output; raised before any training.

    Example:
        ```python
        results = nmg.compare(config, ["none", "random"], Path("comparison"), policies={"mine": Path("run")}, seeds=5)
        print(results.failures)
        ```
    """
    first = config.run.seed
    plan = Plan.of(maskings, policies or {}, range(first, first + seeds), labelled=labelled, adapt_steps=adapt_steps)
    with as_one():
        check_folder(out)  # before locking, which writes to the folder
    with as_one(), output_lock(out):
        comparison = Comparison.open(config, plan, out, reporter or Silent(), save_models=save_models)
        return _run(comparison, out, on_cell)


def _run(comparison: Comparison, out: Path, on_cell: Callable[[CellEvent, int], None]) -> ComparisonResults:
    """Run the missing cells and write the files."""
    plan = comparison.plan
    missing = len(plan.keys()) - len(comparison.found)
    finished = comparison.with_head().run(lambda event: on_cell(event, missing))
    results = analyse(comparison.config, plan, comparison.session.table_metrics, finished)
    if is_main_process():
        write_comparison(out, results)
    return results


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

    A comparison that fails does not stop the others. Arguments not listed here are as in `compare`.

    Args:
        configs: Name → settings.
        models: Name → folder or hub name; None uses the model of each configuration.
        base: The masking that all others are tested against; None means `random` or else the first masking.
        policies: Name → folder; each policy is used only with the models that it fits.
        on_cell: Called with the comparison, the cell's event and the number of cells missing at the start.

    Returns:
        The results of all comparisons and their common tests; what failed is in `failures`.

    Raises:
        UserError: Invalid input or output; raised before any training.

    Example:
        ```python
        configs = {"chemistry": nmg.load_config(Path("chemistry.yaml")), "news": nmg.load_config(Path("news.yaml"))}
        nmg.compare_grid(configs, ["random", "idf"], Path("grid"), models={"bert": "bert-base-uncased"}, seeds=5)
        ```
    """
    reporter = reporter or Silent()
    if not configs:
        raise UserError("a grid needs at least one configuration")
    results, failed, inputs = {}, {}, SharedInputs()
    curves: dict[str, Any] = {"labelled": labelled, "adapt_steps": adapt_steps}

    def opened(part: Part, notes: Reporter) -> Comparison:
        first = part.config.run.seed
        plan = Plan.of(part.maskings, part.policies, range(first, first + seeds), **curves)
        return Comparison.open(part.config, plan, out / part.name, notes, inputs=inputs)

    with as_one(), output_lock(out):
        parts = parts_of(configs, models or {}, maskings, policies or {}, inputs)
        base = chosen_base(base, parts)
        if not any((out / part.name).is_dir() for part in parts) and not (out / "grid.json").is_file():
            check_output(out, "other files than a grid")
        queue = _by_model(parts)
        for part in queue:
            with _named(part):
                opened(part, Silent())
        for number, part in enumerate(queue, start=1):
            reporter.notify(f"comparison {number} of {len(parts)}: {part.name}")
            try:
                with as_one(), output_lock(out / part.name):
                    comparison = opened(part, reporter)
                    results[part.name] = _run(comparison, out / part.name, partial(on_cell, part.name))
                if is_main_process():
                    _error_file(out, part).unlink(missing_ok=True)
            except Exception as error:
                failed[part.name] = _save_error(out, part, error)
                reporter.notify(f"{part.name}  failed: {failed[part.name]}")
        grid = analyse_grid(base, parts, results, failed)
        if is_main_process():
            write_grid(out, grid)
    return grid


def _by_model(parts: Sequence[Part]) -> list[Part]:
    """The parts in an order that needs each model once."""
    models = [part.config.model.name for part in parts]
    return sorted(parts, key=lambda part: models.index(part.config.model.name))


@contextmanager
def _named(part: Part) -> Iterator[None]:
    """Add the name of the comparison to any UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{part.name}: {error}") from error


def _error_file(out: Path, part: Part) -> Path:
    return out / f"{part.name}.error.txt"


def _save_error(out: Path, part: Part, error: Exception) -> str:
    """Save the traceback. Returns the problem in one line."""
    problem, report = described(error)
    with as_one():
        if is_main_process():
            write_text(_error_file(out, part), report)
    return problem
