"""Runs the demo (`nmg demo`): the whole workflow on BBC News, with data from installed packages and no download.

1. A small language model is trained on one part of the articles.
2. It is adapted to other articles with random masks: the first result.
3. Masks are learned, from the scores of a linear classifier on the adapted model.
4. All maskings are compared on the same seeds, and written to one page.

Each step keeps what it has written, so that a second call continues an interrupted demo. The sizes are chosen so that
the demo takes minutes on two CPU cores.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmg.base.files import as_json, write_text
from nmg.base.outputs import check_output, output_lock
from nmg.comparison.results import ComparisonResults
from nmg.comparison.run import TrialEvent
from nmg.config import Config, load_config
from nmg.config.shipped import configs_folder
from nmg.demo.data import DemoSizes, demo_model_folder, write_demo_data
from nmg.demo.page import DemoResult, answer, demo_page, first_table, held_out_warning
from nmg.demo.words import inspect_masks
from nmg.jobs.adapt import adapt
from nmg.jobs.compare import compare
from nmg.jobs.learn import learn
from nmg.jobs.progress import JobProgress, Messages
from nmg.masking.names import LEARNED
from nmg.meta_training.log import RunLog, read_run
from nmg.meta_training.loop import EpisodeRecord
from nmg.meta_training.run import episode_line
from nmg.policies.linear import rule_words
from nmg.report.html import write_html

SIZES = DemoSizes(per_class={"train": 60, "validation": 45, "test": 80}, corpus_paragraphs=450, general_paragraphs=1200)
LM_SETTINGS = (
    *("--masking.rate=0.2", "--adapt.epochs=1", "--adapt.batch_size=32", "--adapt.learning_rate=2e-3"),
    *("--adapt.warmup_ratio=0.1", "--adapt.block_size=126", "--adapt.held_out=0"),
)
"""Settings for training the language model."""
MADE = ("data", "lm", "run", "results", "index.html", "masks.html", "demo.json")
"""Everything that a demo writes into its folder."""


@dataclass
class _Work:
    """The progress of the demo, in units of about one second on two cores."""

    reporter: JobProgress
    total: float
    done: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def add(self, units: float, what: str) -> None:
        """Advance by `units` and show `what`."""
        self.done = min(self.done + units, self.total)
        self.reporter.overall(what, self.done, self.total)

    def say(self, what: str) -> None:
        """Print a line with the time that is left, in words."""
        self.reporter.notify(f"\n{what} ({self.left()})")

    def left(self) -> str:
        """Return the time that is left, in words, from the speed so far."""
        speed = self.done / max(time.perf_counter() - self.began, 1e-9) if self.done >= UNITS["lm"] / 2 else 1.0
        minutes = round((self.total - self.done) / max(speed, 1e-9) / 60)
        return f"about {minutes} minutes left" if minutes > 1 else "about a minute left"


UNITS: Mapping[str, float] = {"lm": 20, "none": 1.5, "adapted": 8, "trial": 1.2, "words": 8}
"""Approximate seconds on two cores: the language model, a trial of the comparison without and with adaptation, an inner
loop of learning, and the page of masks."""


def run_demo(out: Path, seed: int, n_seeds: int, overrides: Sequence[str], reporter: JobProgress) -> DemoResult:
    """Run the whole demo, or continue it.

    Args:
        out: Folder for all results. If it holds a demo with the same settings, this demo is continued; one with other
            settings is replaced.
        seed: Seed of the data and of the runs.
        n_seeds: Number of seeds of the comparison.
        overrides: Settings as '--section.field=value'.
        reporter: Receives progress and messages.

    Returns:
        The results.

    Raises:
        UserError: A package of the demo is missing, or `out` holds something else or is not writable.
    """
    facts = {"seed": seed, "seeds": n_seeds, "overrides": list(overrides)}
    known = _read_facts(out)
    if known is None:
        check_output(out, "something other than a demo")
    with output_lock(out):
        if known is not None and known != facts:
            reporter.notify(f"{out} holds a demo with other settings: starting again")
            _remove(out)
        write_text(out / "demo.json", as_json(facts, indent=1) + "\n")
        return _Demo.open(out, seed, n_seeds, overrides, reporter).run()


def for_learning(config: Config) -> Config:
    """Return the settings of learning: only the words of the corpus are trained, unless `config` says which.

    That nearly halves a trial. The comparison trains all words, because the held-out loss counts the others too.
    """
    if "vocabulary" in config.adapt.model_fields_set:
        return config
    return config.model_copy(update={"adapt": config.adapt.model_copy(update={"vocabulary": "corpus"})})


def _read_facts(out: Path) -> Any:
    """Return what demo.json says, or None if the folder holds no demo."""
    try:
        return json.loads((out / "demo.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}


def _remove(out: Path) -> None:
    """Remove everything that a demo has written."""
    for name in MADE:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Demo:
    """The fixed parts of a demo."""

    out: Path
    config: Config
    general: Path
    """Text that the language model is trained on."""
    corpus: Path
    n_seeds: int
    trains_lm: bool
    """False if the overrides name another model."""
    work: _Work

    @classmethod
    def open(cls, out: Path, seed: int, n_seeds: int, overrides: Sequence[str], reporter: JobProgress) -> "_Demo":
        """Write the data and read the settings."""
        data = write_demo_data(out / "data", seed, SIZES)
        named = [f"--data.{split}={file}" for split, file in data.splits.items()]
        named += [f"--data.corpus={data.corpus}", f"--model.name={out / 'lm'}", f"--run.seed={seed}"]
        config = load_config(configs_folder() / "demo.yaml", [*named, *overrides])
        trains_lm = config.model.name == str(out / "lm")
        n_trials = getattr(config.learner, "budget", 2 * config.meta.episodes)
        cells = n_seeds * (UNITS["none"] + 3 * UNITS["adapted"])
        total = UNITS["lm"] * trains_lm + UNITS["trial"] * n_trials + cells + UNITS["words"]
        return cls(out, config, data.general, data.corpus, n_seeds, trains_lm, _Work(reporter, total))

    def run(self) -> DemoResult:
        """Run every step that has no result yet."""
        notify = self.work.reporter.notify
        if self.trains_lm:
            self._train_lm()
        self.work.say("Adapting with random masks")
        first = DemoResult(self._compare(["none", "random"], {}))
        notify("\n".join(["", answer(first), *first_table(first), *held_out_warning(first)]).replace("**", ""))
        self._write(first)
        log = self._learn()
        self.work.say("Adapting fresh models with all maskings")
        policies = {LEARNED: self.out / "run" / "learned"}
        if log.findings.get("rule"):
            policies = {rule_words(log.findings["rule"]): self.out / "run" / "rule", **policies}
        results = self._compare(["none", "random"], policies)
        words = inspect_masks(
            self.config, self.corpus, self.out / "run" / "learned", self.out / "masks.html", self.work.reporter
        )
        self.work.add(self.work.total, "done")
        whole = DemoResult(results, log, words)
        self._write(whole)
        notify("\n" + answer(whole))
        return whole

    def _write(self, result: DemoResult) -> None:
        write_html(self.out / "index.html", demo_page(result))

    def _train_lm(self) -> None:
        """Train the small BERT as a language model on news, because its LM head is tuned for retrieval."""
        lm = self.out / "lm"
        if not (lm / "config.json").is_file():
            shutil.rmtree(lm, ignore_errors=True)  # of an interrupted training
            self.work.say("Training a small language model on news")
            words = [f"--model.name={demo_model_folder()}", f"--data.corpus={self.general}", *LM_SETTINGS]
            settings = load_config(None, words).model_copy(
                update={"run": self.config.run, "runtime": self.config.runtime}
            )
            adapt(settings, "random", lm, reporter=Messages(self.work.reporter))
        self.work.add(UNITS["lm"], "the language model is trained")

    def _learn(self) -> RunLog:
        """Learn masks, or continue to learn; a finished run is only read."""
        run, budget = self.out / "run", getattr(self.config.learner, "budget", 0)
        self.work.say("Learning which tokens to mask")
        if not (run / "config.yaml").is_file():
            shutil.rmtree(run, ignore_errors=True)

        def on_episode(record: EpisodeRecord, episodes: int) -> None:
            self.work.reporter.notify(episode_line(record, episodes))
            self.work.add(UNITS["trial"] * len(record.scores), f"learning · episode {record.episode + 1}")

        if (run / "config.yaml").is_file() and read_run(run).is_finished:
            self.work.add(UNITS["trial"] * budget, "masks are learned")
        else:
            resume = (run / "config.yaml").is_file()
            learn(
                for_learning(self.config),
                run,
                resume=resume,
                reporter=Messages(self.work.reporter),
                on_episode=on_episode,
            )
        return read_run(run)

    def _compare(self, maskings: Sequence[str], policies: Mapping[str, Path]) -> ComparisonResults:
        """Compare maskings; trials with a result are not run again."""

        def on_cell(event: TrialEvent, _missing: int) -> None:
            if event.was_there and policies:  # counted by the first result
                return
            masking = event.result.spec.masking
            self.work.add(UNITS["none" if masking == "none" else "adapted"], f"adapting · {masking}")

        return compare(
            self.config,
            maskings,
            self.out / "results",
            baseline="none",
            policies=policies,
            seeds=self.n_seeds,
            save_models=True,
            reporter=Messages(self.work.reporter),
            on_cell=on_cell,
        )
