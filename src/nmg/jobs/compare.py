"""Runs a comparison and writes its files: `nmg.compare`."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from nmg.base.distributed import as_one, described, is_main_process
from nmg.base.errors import UserError
from nmg.base.files import user_path, write_text
from nmg.base.outputs import check_output, output_lock
from nmg.base.progress import Reporter, Silent
from nmg.base.trial import Labelled
from nmg.comparison.analysis import analyse, compared
from nmg.comparison.parts import Cells, Part, chosen_baseline, parts_of
from nmg.comparison.results import ComparisonResults, PartResults
from nmg.comparison.run import Comparison, TrialEvent, check_folder
from nmg.config import Config
from nmg.config.sources import AnyPath, Settings, Source, config_of
from nmg.jobs.policies import AnyPolicies, names_of, policies_of
from nmg.jobs.progress import JobProgress, job_progress
from nmg.jobs.results import Compared, Learned
from nmg.masking.names import LEARNED
from nmg.report.comparison_files import write_comparison
from nmg.trials.inputs import SharedInputs

OnCell = Callable[[TrialEvent, int], None]
"""Called after each trial with its event and the number of trials that were missing at the start."""


def compare(
    config: Source | Mapping[str, Source],
    maskings: str | Sequence[str],
    out: AnyPath,
    *,
    models: Mapping[str, AnyPath] | None = None,
    baseline: str | None = None,
    policies: AnyPolicies | None = None,
    seeds: int = 5,
    labelled: Sequence[Labelled] = (None,),
    adapt_steps: Sequence[int | None] = (None,),
    lora_ranks: Sequence[int | None] = (None,),
    save_models: bool = False,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
    on_cell: OnCell = lambda _event, _missing: None,
    **settings: Unpack[Settings],
) -> Compared:
    """Run every masking with every seed, analyse the trials, and write all files into `out`.

    Trials that an earlier call completed in `out` are reused. Several configurations or `models` make a grid: each
    configuration with each model is a part in a separate folder in `out`, and a part that fails does not stop the
    others.

    Args:
        config: Settings shared by all trials (seeds count up from `run.seed`): a `Config`, a configuration file, a file
            of labelled texts, or a result of `nmg.learn`. For a grid, name → settings.
        maskings: Names of the maskings to compare.
        out: Folder of the comparison.
        models: For a grid, name → folder or hub name; None uses the model of each configuration.
        baseline: The masking that all others are tested against. None tests all pairs; in a grid, None chooses
            `random` or, without it, the first masking.
        policies: Folders of runs or policies, or name → folder. A grid uses each only with the models that it fits.
            None compares the policy of `config` as `learned` if it is a result of `nmg.learn`.
        seeds: Number of seeds.
        labelled: Numbers of labelled examples for learning curves; None means as configured.
        adapt_steps: Numbers of adaptation steps for learning curves; None means as configured.
        lora_ranks: Ranks of LoRA to compare, 0 for training the whole model; None means as configured.
        save_models: True saves the adapted models of the first seed under the first condition.
        overrides: Other settings, as `section.field` → value.
        progress: Whether to show bars in a terminal or a notebook.
        reporter: Receives messages and phases instead of the bars.
        on_cell: Called after each trial with its event and the number of trials that were missing at the start.
        **settings: `model`, `task`, `train`, `validation`, `test`, `corpus`, `rate` and `seed`.

    Returns:
        All scores, costs and tests, with `summary()` and `to_frame()`; `failures` has the errors of failed trials and
        parts.

    Raises:
        UserError: Invalid input or output; raised before any training.

    Example:
        ```python
        results = nmg.compare("config.yaml", ["none", "random"], "comparison", policies={"mine": "run"}, seeds=5)
        print(results.to_frame())
        nmg.compare({"chemistry": "a.yaml", "news": "b.yaml"}, ["random", "idf"], "grid")
        ```
    """
    if policies is None and isinstance(config, Learned):
        policies = {LEARNED: config}
    curves = {"labelled": labelled, "adapt_steps": adapt_steps, "lora_ranks": lora_ranks}
    cells = Cells(names_of(maskings), policies_of(policies), seeds, curves)
    folder = user_path(out)
    with job_progress(progress, reporter) as shown:
        job = _Job(folder, shown, _with_bar(on_cell, shown), save_models)
        if isinstance(config, Mapping):
            configs = {name: config_of(one, settings, overrides, call="nmg.compare") for name, one in config.items()}
            named = {name: os.fspath(model) for name, model in (models or {}).items()}
            results = job.grid(configs, named, cells, baseline)
        elif models is not None:
            raise UserError("models: name the configuration, too: {name: config}")
        else:
            chosen = config_of(config, settings, overrides, call="nmg.compare")
            results = job.single(Part.alone(chosen, cells.plan(chosen)), baseline)
    return Compared(**vars(results), out=folder)


def _with_bar(on_cell: OnCell, shown: JobProgress) -> OnCell:
    """Return a callback that also counts the new trials on a bar."""
    done = 0

    def on_each(event: TrialEvent, missing: int) -> None:
        nonlocal done
        done += not event.was_there
        shown.overall(f"trial {done}/{missing} · {event.result.spec.name}", done, missing)
        on_cell(event, missing)

    return on_each


@dataclass(frozen=True)
class _Job:
    """A call of `compare`: runs the parts of the comparison and writes their files."""

    out: Path
    reporter: Reporter
    on_cell: OnCell
    save_models: bool

    def single(self, part: Part, baseline: str | None) -> ComparisonResults:
        """Run a comparison with a single part. Raises UserError for invalid input or output."""
        if baseline is not None:
            baseline = chosen_baseline(baseline, [part])
        with as_one():
            check_folder(self.out)  # before locking, which writes to the folder
        with as_one(), output_lock(self.out):
            results = compared([self._run(part, SharedInputs(max_models=0))], baseline)
            self._write(self.out, results)
        return results

    def grid(
        self, configs: Mapping[str, Config], models: Mapping[str, str], cells: Cells, baseline: str | None
    ) -> ComparisonResults:
        """Run every configuration with every model.

        Args:
            configs: Name → settings.
            models: Name → folder or hub name; empty for the model of each configuration.
            cells: The maskings, seeds and conditions of every part.
            baseline: The baseline; None chooses `random` or, without it, the first masking.

        Returns:
            The results; each part also has its own files, with tests of all its pairs.

        Raises:
            UserError: Invalid input or output; raised before any training.
        """
        if not configs:
            raise UserError("a grid needs at least one configuration")
        done, failed, inputs = {}, {}, SharedInputs()
        with as_one(), output_lock(self.out):
            parts = parts_of(configs, models, cells, inputs)
            baseline = chosen_baseline(baseline, parts)
            is_grid = (self.out / "results.json").is_file() and not (self.out / "cells").is_dir()
            if not is_grid and not any((self.out / part.name).is_dir() for part in parts):
                check_output(self.out, "files that do not belong to a grid")
            queue, missing = _by_model(parts), 0
            for part in queue:
                with _named(part):
                    missing += self._open(part, Silent(), inputs).n_missing
            for number, part in enumerate(queue, start=1):
                self.reporter.notify(f"comparison {number} of {len(parts)}: {part.name}")
                try:
                    with as_one(), output_lock(self.out / part.name):
                        done[part.name] = self._run(part, inputs, missing)
                        self._write(self.out / part.name, compared([done[part.name].alone()]))
                    if is_main_process():
                        _error_file(self.out, part).unlink(missing_ok=True)
                except Exception as error:
                    failed[part.name] = _save_error(self.out, part, error)
                    self.reporter.notify(f"{part.name}  failed: {failed[part.name]}")
            in_order = [done[part.name] for part in parts if part.name in done]
            lost = [(part, failed[part.name]) for part in parts if part.name in failed]
            results = compared(in_order, baseline, lost)
            self._write(self.out, results)
        return results

    def _open(self, part: Part, reporter: Reporter, inputs: SharedInputs) -> Comparison:
        """Read and check all inputs of the part. Raises UserError if one is invalid."""
        out, save = self.out / part.name, self.save_models
        return Comparison.open(part.config, part.plan, out, reporter, save_models=save, inputs=inputs)

    def _run(self, part: Part, inputs: SharedInputs, missing: int | None = None) -> PartResults:
        """Run the missing trials of the part and analyse the part.

        `missing` is the number of missing trials of all parts; None if there is only this part.
        """
        comparison = self._open(part, self.reporter, inputs)
        n_missing = comparison.n_missing if missing is None else missing
        finished = comparison.with_head().run(lambda event: self.on_cell(event, n_missing))
        part = replace(part, config=comparison.config, plan=comparison.plan)
        return analyse(part, comparison.session.table_metrics, finished)

    def _write(self, out: Path, results: ComparisonResults) -> None:
        if is_main_process():
            write_comparison(out, results)


def _by_model(parts: Sequence[Part]) -> list[Part]:
    """Return the parts in an order in which parts with the same model are consecutive."""
    models = [part.config.model.name for part in parts]
    return sorted(parts, key=lambda part: models.index(part.config.model.name))


@contextmanager
def _named(part: Part) -> Iterator[None]:
    """Add the name of the part to any UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{part.name}: {error}") from error


def _error_file(out: Path, part: Part) -> Path:
    return out / f"{part.name}.error.txt"


def _save_error(out: Path, part: Part, error: Exception) -> str:
    """Save the traceback of a failed part in `_error_file`, and return the problem in one line."""
    problem, report = described(error)
    with as_one():
        if is_main_process():
            write_text(_error_file(out, part), report)
    return problem
