"""`nmg demo`: both jobs on both tasks with what installed packages ship. No download.

Meta-train a policy, then adapt fresh models under its masks and under rules, and put scores, times and pictures on one
page. Sizes are chosen for minutes on two CPU cores: the demo shows how a run goes, not what masks are worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nmg.comparison.cells import CellEvent
from nmg.config import Config, load_config
from nmg.demo.data import DemoSizes, demo_model_folder, write_demo_data
from nmg.demo.page import TaskResult, demo_page
from nmg.errors import UserError
from nmg.meta_train import EpisodeRecord
from nmg.report.comparison_files import compare
from nmg.report.page import write_page
from nmg.reporter import Reporter
from nmg.runs.log import read_run
from nmg.runs.meta_training import episode_line, start
from nmg.workbench import check_output

TASKS = ("classification", "qa")
MASKINGS = ("none", "random", "whole-word", "idf", "neural")
SIZES = DemoSizes(
    train_per_class=16,
    validation_per_class=8,
    test_per_class=40,
    train_passages=50,
    validation_passages=12,
    test_passages=40,
    questions_per_passage=2,
    corpus_paragraphs=150,
)


class DemoReporter(Reporter, Protocol):
    def overall(self, description: str, done: float, total: float) -> None:
        """Move the bar of the whole demo."""


@dataclass
class _Work:
    """The demo's work in units of about a second on two cores, for one bar with an honest time left."""

    reporter: DemoReporter
    total: float
    done: float = 0.0

    def add(self, units: float, what: str) -> None:
        self.done += units
        self.reporter.overall(what, self.done, self.total)


UNITS: Mapping[str, Mapping[str, float]] = {
    "classification": {"prepare": 20, "episode": 15, "none": 10, "adapted": 29},
    "qa": {"prepare": 3, "episode": 21, "none": 15, "adapted": 27},
}


def configs_folder() -> Path:
    """The shipped configurations: inside the installed package, or in the source tree."""
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if folder.is_dir():
            return folder
    raise UserError("the configurations that come with nmg are missing; install it again")


def run_demo(out: Path, seed: int, n_seeds: int, overrides: Sequence[str], reporter: DemoReporter) -> list[TaskResult]:
    """Run everything into the empty folder `out`; returns the results of each task.

    Raises UserError where a package of the demo is missing, and where `out` holds something.
    """
    check_output(out, "an earlier demo or another run")
    model = demo_model_folder()
    data = write_demo_data(out / "data", seed, SIZES)
    configs: dict[str, Config] = {}
    for task in TASKS:
        files: Mapping[Any, Path] = data.classification if task == "classification" else data.qa
        named = [f"--data.{split}={file}" for split, file in files.items()]
        configs[task] = load_config(
            configs_folder() / f"demo-{task}.yaml",
            [*named, f"--data.corpus={data.corpus}", f"--model.name={model}", f"--run.seed={seed}", *overrides],
        )
    work = _Work(reporter, sum(_units(config, n_seeds) for config in configs.values()))
    results = []
    for task, config in configs.items():
        results.append(_run_task(task, config, out / task, n_seeds, work))
        write_page(out / "index.html", demo_page(results))
    return results


def _units(config: Config, n_seeds: int) -> float:
    unit = UNITS[config.data.task]
    cells = unit["none"] + unit["adapted"] * (len(MASKINGS) - 1)
    return unit["prepare"] + unit["episode"] * config.meta.episodes + cells * n_seeds


def _run_task(task: str, config: Config, out: Path, n_seeds: int, work: _Work) -> TaskResult:
    unit = UNITS[task]
    work.reporter.notify(f"\n{task}: meta-training a policy, {config.meta.episodes} episodes")
    work.add(0, f"{task} · preparing")

    def on_episode(record: EpisodeRecord, episodes: int) -> None:
        work.reporter.notify(episode_line(record, episodes))
        first = unit["prepare"] if record.episode == 0 else 0
        work.add(unit["episode"] + first, f"{task} · episode {record.episode + 1}/{episodes}")

    start(config, out / "run", work.reporter, on_episode)

    def on_cell(event: CellEvent, _missing: int) -> None:
        work.reporter.notify(event.line())
        work.add(unit["none" if event.key.masking == "none" else "adapted"], f"{task} · {event.key.masking}")

    work.reporter.notify(f"{task}: adapting fresh models with {', '.join(MASKINGS)}")
    comparison = compare(
        config,
        MASKINGS,
        out / "results",
        policies={"neural": out / "run"},
        seeds=n_seeds,
        save_models=True,
        reporter=work.reporter,
        on_cell=on_cell,
    )
    return TaskResult(task, read_run(out / "run"), comparison)
