"""Runs the demo (`nmg demo`): the whole workflow on both tasks, with data from installed packages and no download.

The demo trains a small language model on news, audits each task, and learns masks. Then it adapts copies of the
language model with learned masks and with rules, and writes the results to one page. The sizes are chosen so that it
takes minutes on two CPU cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nmg.base.outputs import check_output, output_lock
from nmg.base.progress import Reporter
from nmg.comparison.run import TrialEvent
from nmg.config import Config, load_config
from nmg.config.shipped import configs_folder
from nmg.demo.data import DemoSizes, demo_model_folder, write_demo_data
from nmg.demo.page import TaskResult, demo_page
from nmg.jobs.adapt import adapt
from nmg.jobs.audit import audit
from nmg.jobs.compare import compare
from nmg.jobs.learn import learn
from nmg.meta_training.log import read_run
from nmg.meta_training.loop import EpisodeRecord
from nmg.meta_training.run import episode_line
from nmg.report.html import write_html

TASKS = ("classification", "qa")
MASKINGS = ("none", "random", "idf", "learned", "placebo")
SIZES = DemoSizes(
    train_per_class=30,
    validation_per_class=40,
    test_per_class=60,
    train_passages=100,
    validation_passages=60,
    test_passages=80,
    questions_per_passage=2,
    corpus_paragraphs=300,
    general_paragraphs=3500,
)
LM_SETTINGS = (
    *("--masking.rate=0.2", "--adapt.epochs=1", "--adapt.batch_size=32", "--adapt.learning_rate=2e-3"),
    *("--adapt.warmup_ratio=0.1", "--adapt.block_size=126", "--adapt.held_out=0"),
)
"""Settings for training the language model."""
AUDIT_MINUTES, AUDIT_SEEDS = 0.6, 2


class DemoReporter(Reporter, Protocol):
    """A reporter that also shows the progress of the whole demo."""

    def overall(self, description: str, done: float, total: float) -> None:
        """Update the progress bar of the whole demo.

        Args:
            description: Text next to the bar.
            done: Amount of work done.
            total: Total amount of work, in the unit of `done`.
        """


@dataclass
class _Work:
    """The progress of the demo, in units of about one second on two cores.

    The progress bar computes the remaining time from these units.
    """

    reporter: DemoReporter
    total: float
    done: float = 0.0

    def reach(self, done: float, what: str) -> None:
        """Advance to `done` when a part has ended, possibly early; the progress never decreases."""
        self.add(max(done - self.done, 0.0), what)

    def add(self, units: float, what: str) -> None:
        """Advance by `units` and show `what`."""
        self.done += units
        self.reporter.overall(what, self.done, self.total)


LM_UNITS = 45.0
UNITS: Mapping[str, Mapping[str, float]] = {
    "classification": {"audit": 50, "episode": 2.6, "none": 1.5, "adapted": 2.5},
    "qa": {"audit": 60, "episode": 3.5, "none": 1.5, "adapted": 2.5},
}
"""Task → approximate seconds on two cores for its audit, an episode, and trials without and with adaptation."""


def run_demo(out: Path, seed: int, n_seeds: int, overrides: Sequence[str], reporter: DemoReporter) -> list[TaskResult]:
    """Run the whole demo.

    Args:
        out: Folder for all results; it must be empty or missing.
        seed: Seed of the data and of the runs.
        n_seeds: Number of seeds of the comparison.
        overrides: Settings as '--section.field=value'.
        reporter: Receives progress and messages.

    Returns:
        The results of each task.

    Raises:
        UserError: A package of the demo is missing, or `out` is not empty or not writable.
    """
    check_output(out, "an earlier demo or another run")
    with output_lock(out):
        return _run_all(out, seed, n_seeds, overrides, reporter)


def _run_all(out: Path, seed: int, n_seeds: int, overrides: Sequence[str], reporter: DemoReporter) -> list[TaskResult]:
    data = write_demo_data(out / "data", seed, SIZES)
    configs: dict[str, Config] = {}
    for task in TASKS:
        files: Mapping[Any, Path] = data.classification if task == "classification" else data.qa
        named = [f"--data.{split}={file}" for split, file in files.items()]
        configs[task] = load_config(
            configs_folder() / f"demo-{task}.yaml",
            [*named, f"--data.corpus={data.corpus}", f"--model.name={out / 'lm'}", f"--run.seed={seed}", *overrides],
        )
    trains_lm = configs[TASKS[0]].model.name == str(out / "lm")  # False if the overrides name another model
    units = [_units(config, n_seeds) for config in configs.values()]
    work = _Work(reporter, LM_UNITS * trains_lm + sum(units))
    if trains_lm:
        _train_lm(data.general, configs[TASKS[0]], out / "lm", work)
    results = []
    for task, config in configs.items():
        results.append(_run_task(task, config, out / task, n_seeds, work))
        write_html(out / "index.html", demo_page(results))
    return results


def _train_lm(text: Path, config: Config, out: Path, work: _Work) -> None:
    """Train the small BERT as a language model on news, because its LM head is tuned for retrieval.

    Args:
        text: File with one text per line.
        config: Settings with the seed and the runtime.
        out: The output folder of the model.
        work: Progress of the demo.
    """
    work.reporter.notify("training a small language model on news")
    work.add(0, "training a language model on news")
    words = [f"--model.name={demo_model_folder()}", f"--data.corpus={text}", *LM_SETTINGS]
    settings = load_config(None, words).model_copy(update={"run": config.run, "runtime": config.runtime})
    result = adapt(settings, "random", out, reporter=work.reporter)
    work.reporter.notify(f"mean masked-LM loss {result.loss:.2f} over {result.steps} steps")
    work.add(LM_UNITS, "the language model is trained")


def _units(config: Config, n_seeds: int) -> float:
    """Return the estimated work for one task, in units of `_Work`."""
    unit = UNITS[config.data.task]
    cells = unit["none"] + unit["adapted"] * (len(MASKINGS) - 1)
    plays = getattr(config.learner, "budget", 2 * config.meta.episodes)
    return unit["audit"] + unit["episode"] * plays / 2 + cells * n_seeds


def _run_task(task: str, config: Config, out: Path, n_seeds: int, work: _Work) -> TaskResult:
    unit, whole = UNITS[task], work.done + _units(config, n_seeds)
    work.reporter.notify(f"\n{task}: auditing whether it can help to learn what to mask")
    audited = audit(config, out / "audit", seeds=AUDIT_SEEDS, minutes=AUDIT_MINUTES, reporter=work.reporter)
    work.reporter.notify(audited.facts["recommendation"])
    work.add(unit["audit"], f"{task} · audited")
    work.reporter.notify(f"\n{task}: learning which tokens to mask")

    def on_episode(record: EpisodeRecord, episodes: int) -> None:
        work.reporter.notify(episode_line(record, episodes))
        work.add(unit["episode"] * len(record.scores) / 2, f"{task} · episode {record.episode}")

    learn(config, out / "run", reporter=work.reporter, on_episode=on_episode)

    def on_cell(event: TrialEvent, _missing: int) -> None:
        work.reporter.notify(event.line())
        masking = event.result.spec.masking
        work.add(unit["none" if masking == "none" else "adapted"], f"{task} · {masking}")

    work.reporter.notify(f"{task}: adapting fresh models with {', '.join(MASKINGS)}")
    comparison = compare(
        config,
        MASKINGS,
        out / "results",
        policies={"learned": out / "run"},
        seeds=n_seeds,
        save_models=True,
        reporter=work.reporter,
        on_cell=on_cell,
    )
    work.reach(whole, f"{task} · done")
    return TaskResult(task, audited, read_run(out / "run"), comparison)
