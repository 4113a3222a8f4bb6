"""What the functions of nmg return: the records of a job, and how they look as text, as a table and in a notebook."""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nmg.adaptation.log import AdaptationLog
from nmg.adaptation.result import AdaptationResult
from nmg.auditing.result import AuditResult
from nmg.base.numerals import rounded
from nmg.comparison.results import ComparisonResults, trial_json
from nmg.config import Config
from nmg.inspection.draws import views_of
from nmg.inspection.page import distinct_words, top_words_table, word_rates
from nmg.inspection.run import Inspection
from nmg.meta_training.estimate import Estimate
from nmg.meta_training.log import RunLog, read_run
from nmg.policies.base import Policy
from nmg.report import adaptation_page, audit_page, run_page
from nmg.report.comparison import terminal_tables
from nmg.report.comparison_summary import reading
from nmg.report.document import Block, Facts, Paragraph, Table, Verdict
from nmg.report.html import render_blocks
from nmg.report.learner_parts import summary
from nmg.report.numbers import count_text, decimal, score_text
from nmg.report.terminal import as_text, notes_once

if TYPE_CHECKING:
    import pandas as pd

    from nmg.meta_training.loop import MetaTraining


class JobResult:
    """What all results have: a line, a text, a table and a view in a notebook."""

    @abstractmethod
    def _view(self) -> Sequence[Block]:
        """Return the result as blocks of a page, the answer first."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of `to_frame`, each with the same fields."""

    @abstractmethod
    def _facts(self) -> Mapping[str, Any]:
        """Return the few values that `repr` shows."""

    def summary(self) -> str:
        """Return the result as text for a terminal."""
        return as_text(self._view())

    def to_frame(self) -> "pd.DataFrame":
        """Return the numbers as a data frame. Raises ImportError if pandas is not installed."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        """Return the result as HTML, for notebooks."""
        return render_blocks(self._view())

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self._facts().items())
        return f"{type(self).__name__}({facts})"


class InFolder(JobResult):
    """A result with a folder, which may be passed wherever nmg takes the path of that folder."""

    out: Path

    def __fspath__(self) -> str:
        return os.fspath(self.out)


@dataclass(frozen=True, repr=False)
class Adapted(InFolder, AdaptationResult):
    """The result of `nmg.adapt`. As a path, it is the folder of the adapted model.

    Its table has a row per logged step: losses, learning rate, tokens and seconds.
    """

    @classmethod
    def of(cls, result: AdaptationResult) -> Self:
        """Return the result of an adaptation with its views."""
        return cls(**vars(result))

    def summary(self) -> str:
        """Return a few lines of text: losses before and after, amount of training, and how to use the model."""
        return AdaptationResult.summary(self)

    def _view(self) -> Sequence[Block]:
        """Return the verdict and the facts of the page."""
        log = AdaptationLog.read(self.out)
        return [adaptation_page.verdict(log), adaptation_page.facts(log)]

    def rows(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl."""
        return [dict(record) for record in AdaptationLog.read(self.out).records]

    def _facts(self) -> Mapping[str, Any]:
        held_out = self.held_out
        loss = {} if held_out is None else {"held_out_loss": f"{held_out.before:.3f}→{held_out.after:.3f}"}
        return {"masking": repr(self.masking), "steps": self.steps, **loss, "out": repr(str(self.out))}


@dataclass(frozen=True, repr=False)
class Learned(InFolder):
    """The result of `nmg.learn`. As a path, it is the folder of the run and of its policy.

    Its table has a row per episode (from 1) and player: all scores and the masked-LM loss.
    """

    training: "MetaTraining"
    """The finished run with its data, its model and its learner."""
    out: Path

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.training.config

    @property
    def policy(self) -> Policy:
        """The policy that the learner selected. It may equal a rule."""
        return self.training.learner.policy

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return self.training.next_episode

    @property
    def findings(self) -> dict[str, Any]:
        """The content of effects.json: what the learner found; empty if it reports nothing."""
        return self.training.learner.findings()

    def _view(self) -> Sequence[Block]:
        """Return what was learned, in words, and the facts of the run."""
        said = summary(self._log)
        return [*([Paragraph(said)] if said else []), run_page.facts(self._log)]

    def rows(self) -> list[dict[str, Any]]:
        """Return the scores of every player in every episode."""
        return [
            {"episode": line["episode"], "player": player, **scores, "lm_loss": line["lm_loss"][player]}
            for line in self._log.episodes
            for player, scores in line["scores"].items()
        ]

    @cached_property
    def _log(self) -> RunLog:
        return read_run(self.out)

    def _facts(self) -> Mapping[str, Any]:
        rule = self.policy.as_rule()
        learner = repr(self.config.learner.kind)
        return {"learner": learner, "episodes": self.episodes, "rule": repr(rule), "out": repr(str(self.out))}


@dataclass(frozen=True, repr=False)
class Audited(InFolder, AuditResult):
    """The result of `nmg.audit`: findings, and `recommended` settings to pass on.

    Its table has a row per trial: masking, seed, steps, learning rate and scores on the validation set.
    """

    out: Path

    @property
    def verdict(self) -> Verdict:
        """The answer, the reasons, and the command to run next."""
        return audit_page.verdict(self, self.out)

    def _view(self) -> Sequence[Block]:
        """Return the verdict and the tables of the page."""
        return [self.verdict, *audit_page.audit_tables(self)]

    def rows(self) -> list[dict[str, Any]]:
        """Return the trials; `probe_…` are scores of a linear probe, the others means over fine-tuning runs."""
        return [
            {
                "masking": trial.spec.masking,
                "seed": trial.spec.seed,
                "steps": trial.steps,
                "learning_rate": trial.learning_rate,
                **_means(trial.finetune),
                **{f"probe_{metric}": score for metric, score in trial.probe.items()},
            }
            for trial in self.trials
        ]

    def _facts(self) -> Mapping[str, Any]:
        pays = {True: "'yes'", False: "'no'", None: "'not clear'"}[self.adaptation.pays]
        return {"adapting_helps": pays, "trials": len(self.trials), "out": repr(str(self.out))}


@dataclass(frozen=True, repr=False)
class Compared(InFolder, ComparisonResults):
    """The result of `nmg.compare`.

    Its table has a row per trial: data set, masking, seed, labels, steps, every score, and seconds.
    """

    out: Path

    def _view(self) -> Sequence[Block]:
        """Return the tables of scores and pairs, and what they say."""
        return [Paragraph(reading(self)), *notes_once(terminal_tables(self))]

    def rows(self) -> list[dict[str, Any]]:
        """Return the trials; scores are fractions."""
        return [{"part": part.part.name} | _flat(trial_json(cell)) for part in self.parts for cell in part.cells]

    def _facts(self) -> Mapping[str, Any]:
        means: dict[str, list[str]] = {}
        for setting in self.settings:
            for one in setting.maskings:
                shown = score_text(one.estimates[setting.tested].mean, setting.tested)
                means.setdefault(one.masking, []).append(shown)
        metrics = "/".join(self.families)
        shown = ", ".join(f"{name} {'/'.join(values)}" for name, values in means.items())
        failures = {"failures": len(self.failures)} if self.failures else {}
        return {metrics or "scores": f"{{{shown}}}", **failures, "out": repr(str(self.out))}


@dataclass(frozen=True, repr=False)
class Estimated(JobResult, Estimate):
    """The result of `nmg.estimate`. Its table has one row."""

    def _view(self) -> Sequence[Block]:
        """Return the time, memory and disk space."""
        work = f"{count_text(self.episodes, 'episode')}, {count_text(self.trials, 'inner loop')}"
        head = f", up to {self.head_steps} steps that train a missing LM head" if self.head_steps else ""
        return [
            Facts(
                (
                    ("minutes", f"{decimal(self.minutes, 1)} ({work}{head})"),
                    ("memory", decimal(self.peak_mib, 0, unit=" MiB")),
                    ("disk", decimal(self.disk_mib, 1, unit=" MiB")),
                )
            )
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return the numbers."""
        return [self.to_json()]

    def _facts(self) -> Mapping[str, Any]:
        minutes, memory = rounded(self.minutes, 1), rounded(self.peak_mib, 0)
        return {"minutes": minutes, "peak_mib": memory, "disk_mib": rounded(self.disk_mib, 1)}


@dataclass(frozen=True, repr=False)
class Inspected(JobResult, Inspection):
    """The result of `nmg.inspect`.

    Its table has a row per distinct word, the most frequent first: how often it occurs, and the share of its
    occurrences that each masking masks.
    """

    out: Path | None
    """The page; None if none was written."""

    def _view(self) -> Sequence[Block]:
        """Return the words that each masking masks most often."""
        return [self._top_words()]

    def rows(self) -> list[dict[str, Any]]:
        """Return the words with the share of their occurrences that is masked."""
        words = distinct_words(self.table)
        views = views_of(self.observed)
        rates = {view.name: word_rates(words, view, self.table) for view in views}
        counts = np.bincount(words.of_word)
        return [
            {"word": words.names[word], "count": int(counts[word])}
            | {name: float(shares[word]) for name, shares in rates.items()}
            for word in (-counts).argsort(kind="stable").tolist()
        ]

    def _top_words(self) -> Table:
        return top_words_table(distinct_words(self.table), views_of(self.observed), self.table)

    def _facts(self) -> Mapping[str, Any]:
        maskings = [one.name for one in self.observed]
        return {"texts": self.n_texts, "maskings": maskings, "out": repr(self.out and str(self.out))}


def _means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return metric → mean over fine-tuning runs; empty without a run."""
    return {metric: sum(one[metric] for one in scores) / len(scores) for metric in (scores[0] if scores else ())}


def _flat(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a trial: its scores and seconds as fields of their own, without provenance."""
    left_out = {"scores", "seconds", "provenance", "environment"}
    plain = {name: value for name, value in trial.items() if name not in left_out}
    return plain | dict(trial["scores"]) | {f"seconds_{phase}": value for phase, value in trial["seconds"].items()}
