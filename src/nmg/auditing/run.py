"""Runs an audit in a folder: chooses and runs its trials, and recommends settings before any long training.

DIR/trials.jsonl      the results of the trials; a second call reuses them
DIR/audit.json        all findings
DIR/recommended.yaml  the recommended configuration
DIR/index.html        the page, written by nmg.jobs.audit
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmg.auditing.budget import Budget
from nmg.auditing.findings import (
    Schedule,
    adaptation,
    full_score,
    possible_gain,
    rewards,
    schedules_of,
    spread_of,
    table_of,
)
from nmg.auditing.recommend import recommend
from nmg.auditing.result import AuditResult
from nmg.auditing.trials import MAX_FEATURES, AuditTrial, AuditWorker, evaluations
from nmg.base.errors import UserError
from nmg.base.files import as_json, write_text
from nmg.base.outputs import RECOMMENDED, output_lock
from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName
from nmg.base.settings import Evaluation
from nmg.base.trial import Condition, TrialSpec
from nmg.config import Config
from nmg.data.overlap import Overlap, overlap, report_overlaps
from nmg.executors.base import Executor
from nmg.executors.registry import open_executor, require_single_process
from nmg.training.lm import restore_state
from nmg.training.lm_quality import held_out_loss, unigram_entropy
from nmg.trials.store import TrialStore

PILOT_STEPS, MAX_STEPS = 10, 200
"""Number of adaptation steps of the pilot, and the upper limit in other trials."""
PILOT_EXAMPLES = 100
"""Number of labelled examples per fine-tuning run of the pilot."""
SHORTER, FASTER = 3, 3.0
"""Further schedules to try: a third of the configured steps, and three times the learning rate."""

LEAST_EXAMPLES = 30
"""Minimum number of validation examples on which equal scores show that fine-tuning does not learn."""
LEAST_SEEDS = 2
"""Minimum number of seeds of the second phase, also if the time is over."""

OnTrial = Callable[[AuditTrial, int, int], None]
"""Called with a trial, the number of finished trials and the expected total."""


def audit(
    config: Config,
    out: Path,
    *,
    seeds: int = 3,
    minutes: float = 10.0,
    reporter: Reporter | None = None,
    on_trial: OnTrial = lambda _trial, _done, _in_all: None,
) -> AuditResult:
    """Find out whether there is anything to learn, within a time budget. The test set is not read.

    Args:
        config: The settings of the audit.
        out: The output folder; finished trials in it are reused.
        seeds: Number of seeds per phase of the audit.
        minutes: Approximate duration, in minutes.
        reporter: Receives messages for the user; None for no messages.
        on_trial: Called after each trial.

    Returns:
        The findings and the recommendation.

    Raises:
        UserError: Settings or data are invalid, or training diverges under every schedule.
    """
    require_single_process("audit")
    with output_lock(out):
        return _audit(config, out, seeds, minutes, reporter or Silent(), on_trial)


def _audit(config: Config, out: Path, seeds: int, minutes: float, reporter: Reporter, on_trial: OnTrial) -> AuditResult:
    worker = AuditWorker.open(config, reporter)
    config = config.model_copy(update={"runtime": worker.config.runtime})
    store = TrialStore(out, worker.provenance)
    store.load()
    facts: dict[str, Any] = {"lm": _language_model(worker), "leakage": _leakage(worker, reporter)}
    n_parameters = worker.session.lm.model.num_parameters()
    at_once = worker.session.runtime.threads
    with open_executor(config.runtime, worker, partial(AuditWorker.reopen, config), at_once, n_parameters) as engine:
        trials = _Trials(engine, store, config.test.evaluation, on_trial)
        budget = Budget(60 * minutes * engine.processes, seeds)
        (pilot,) = trials.run([_pilot(worker)], budget.fewest)
        n_examples = budget.examples(pilot, _labelled(worker))
        n_steps = budget.steps(pilot, n_examples, _all_steps(worker))
        _warn_of_time(budget, pilot, n_examples, n_steps, minutes, reporter)
        metric = worker.session.task.table_metrics[0]
        schedules = _schedules(worker, range(seeds), n_steps, n_examples)
        of_first_seed = trials.run(schedules[: len(schedules) // seeds], budget.fewest)
        if len(worker.validation.examples) >= LEAST_EXAMPLES:
            _check_learning(of_first_seed, metric)
        first = trials.run(schedules, budget.fewest)
        tried = schedules_of(first, metric)
        best = max(tried, key=lambda one: one.gain)
        second = _maskings(best, range(seeds, 2 * seeds), budget.maskings(first, best.steps), n_examples)
        fresh = trials.within(budget, first, second, reporter)
    facts["examples"] = {"used": n_examples, "labelled": _labelled(worker)}
    facts["processes"] = engine.processes
    facts["steps"] = {"most": n_steps, "wanted": _all_steps(worker)}
    whole = budget.least(pilot, _labelled(worker), _all_steps(worker))
    facts["minutes"] = whole / engine.processes / 60  # of an audit that is not shortened
    return _conclude(config, out, facts, tried, _Phases(first, fresh), metric, worker.steps_an_epoch)


class _Phases(NamedTuple):
    """The trials of the two phases of an audit."""

    first: Sequence[AuditTrial]
    """Trials used to choose the best schedule."""
    fresh: Sequence[AuditTrial]
    """Trials with other seeds, at the best schedule."""


def _conclude(
    config: Config,
    out: Path,
    facts: dict[str, Any],
    tried: Sequence[Schedule],
    trials: _Phases,
    metric: str,
    steps_an_epoch: int,
) -> AuditResult:
    """Compute the findings and the recommendation of an audit, and write audit.json and recommended.yaml.

    Args:
        config: The settings of the audit.
        out: The output folder.
        facts: The findings so far, to be completed with the findings on trials.
        tried: The schedules that were tried in the first phase.
        trials: The trials of both phases.
        metric: The metric of the full score.
        steps_an_epoch: Number of adaptation steps per epoch.

    Returns:
        The result of the audit.
    """
    adapting = adaptation(tried, trials.fresh, metric)
    found = rewards(trials.fresh, metric)
    names, table = table_of(
        [trial for trial in trials.fresh if trial.spec.masking != "none"], lambda trial: full_score(trial, metric)
    )
    spread = spread_of(table)
    directions = table[[name.startswith("direction-") for name in names]]
    facts |= {
        "adaptation": asdict(adapting),
        "maskings": {
            "metric": metric,
            "mean": {name: float(row.mean()) for name, row in zip(names, table, strict=True)},
            "between": spread.between,
            "between_high": spread.between_high,
            "possible_gain": possible_gain(spread_of(directions), len(MAX_FEATURES)) if len(directions) > 1 else None,
            "noise": spread.noise,
            "p": spread.p,
            "seeds": spread.seeds,
        },
        "rewards": [one.to_json() for one in found],
    }
    recommended, sentence = recommend(config, facts, adapting, found, steps_an_epoch)
    facts["recommendation"] = sentence
    write_text(out / "audit.json", as_json(facts, indent=1) + "\n")
    write_text(out / RECOMMENDED, recommended.to_yaml())
    return AuditResult(config, facts, recommended, [*trials.first, *trials.fresh], trials.fresh, adapting, found)


class _Trials:
    """Runs the missing trials and stores each as soon as it is done."""

    def __init__(self, engine: Executor, store: TrialStore, evaluation: Evaluation, on_trial: OnTrial) -> None:
        self._engine, self._store, self._evaluation, self._on_trial = engine, store, evaluation, on_trial
        self._done = 0

    def run(self, specs: Sequence[TrialSpec], in_all: int) -> list[AuditTrial]:
        """Run the trials that are missing.

        Args:
            specs: Masking, seed, condition and learning rate of each trial.
            in_all: Expected number of trials of the audit, for progress messages.

        Returns:
            The trials of `specs` without those that diverged.

        Raises:
            UserError: All trials diverged.
        """
        jobs = [missing for spec in specs if (missing := self._store.missing(evaluations(spec, self._evaluation)))]
        self._done += len(specs) - len(jobs)
        for number, results in self._engine.map_unordered(None, jobs):
            for result in results:
                self._store.append(result)
            self._done += 1
            trial = self._trial(replace(jobs[number][0], evaluation="finetune", replicate=0))
            self._on_trial(trial, self._done, max(in_all, self._done))
        trials = [self._trial(spec) for spec in specs]
        if all(trial.error for trial in trials):
            raise UserError(f"{trials[0].name}: {trials[0].error}")
        return [trial for trial in trials if not trial.error]

    def within(
        self, budget: Budget, done: Sequence[AuditTrial], specs: Sequence[TrialSpec], reporter: Reporter
    ) -> list[AuditTrial]:
        """Run the trials of one seed after the other, until another seed would take more than the time.

        The trials of at least `LEAST_SEEDS` seeds run.

        Args:
            budget: The time budget.
            done: The trials that are already done.
            specs: The trials, seed by seed.
            reporter: Receives a message if a seed is left out.

        Returns:
            The trials that ran, without those that diverged.
        """
        found: list[AuditTrial] = []
        size, in_all = len(specs) // budget.seeds, 1 + len(done) + len(specs)
        for number in range(budget.seeds):
            if number >= LEAST_SEEDS and not budget.has_time([*done, *found], size):
                reporter.notify(
                    f"trials take longer than at the start: the audit ends after {number} of {budget.seeds} seeds, "
                    "to keep --minutes"
                )
                break
            found += self.run(specs[number * size : (number + 1) * size], in_all)
        return found

    def _trial(self, spec: TrialSpec) -> AuditTrial:
        return AuditTrial([self._store.results[one] for one in evaluations(spec, self._evaluation)])


def _check_learning(trials: Sequence[AuditTrial], metric: str) -> None:
    """Raise UserError if all models of the first seed have the same score: their fine-tuning learns nothing.

    Models that always predict the same label, whatever they were adapted on, cannot be compared.
    """
    scores = {score[metric] for trial in trials for score in trial.counted}
    if len(trials) > 2 and len(scores) == 1 and any(trial.finetune for trial in trials):
        raise UserError(
            f"fine-tuning does not learn: every model of the first {len(trials)} trials has the {metric} "
            f"{scores.pop():.3g}, adapted or not. Train longer or faster (--finetune.epochs, "
            "--finetune.learning_rate), give more labels, or set --test.evaluation linear-probe. Give the new audit "
            "another --out."
        )


def _warn_of_time(
    budget: Budget, pilot: AuditTrial, n_examples: int, n_steps: int, minutes: float, reporter: Reporter
) -> None:
    """Warn if the minimum number of trials takes more than 1.5 times the requested minutes.

    Args:
        budget: The time budget.
        pilot: The pilot trial.
        n_examples: Number of labelled examples per fine-tuning run.
        n_steps: Number of adaptation steps.
        minutes: Requested duration of the audit, in minutes.
        reporter: Receives the warning.
    """
    least = budget.least(pilot, n_examples, n_steps) / budget.seconds * minutes
    if least > 1.5 * minutes:
        reporter.notify(
            f"warning: the smallest audit takes about {least:.0f} minutes here, more than --minutes {minutes:g}; "
            "lower meta.max_validation_examples or --seeds, or raise --minutes"
        )


def _all_steps(worker: AuditWorker) -> int:
    """Return the number of adaptation steps that the settings request, at most `MAX_STEPS`.

    Raises UserError if it is 0.
    """
    settings = worker.config.adapt
    steps = min(settings.epochs * worker.steps_an_epoch, MAX_STEPS)
    if steps == 0:
        raise UserError("adapt.epochs: an audit needs an adaptation of at least one epoch")
    return steps


def _labelled(worker: AuditWorker) -> int:
    """Return the number of available training examples."""
    return len(worker.train.examples)


def _pilot(worker: AuditWorker) -> TrialSpec:
    """Return a short trial that measures the cost of trials."""
    n_examples = min(PILOT_EXAMPLES, _labelled(worker))
    steps = min(PILOT_STEPS, _all_steps(worker))
    return TrialSpec("random", 0, Condition(n_examples, steps), worker.config.adapt.learning_rate)


def _schedules(worker: AuditWorker, seeds: Sequence[int], steps: int, n_examples: int) -> list[TrialSpec]:
    """Return the trials of the first phase: without adaptation, and with random masks at a few schedules.

    Args:
        worker: The worker of the audit, with the configured learning rate.
        seeds: Seeds of the trials; the outermost loop is over seeds.
        steps: Configured number of adaptation steps.
        n_examples: Number of labelled examples per fine-tuning run.

    Returns:
        Masking, seed, condition and learning rate of each trial.
    """
    settings = worker.config.adapt
    rates = (settings.learning_rate, float(f"{FASTER * settings.learning_rate:.6g}"))  # 6e-4, not 6.000000000000001e-4
    schedules = [(n, rate) for n in dict.fromkeys((max(steps // SHORTER, 1), steps)) for rate in rates]
    specs = []
    for seed in seeds:
        specs.append(TrialSpec("none", seed, Condition(n_examples, steps), settings.learning_rate))
        specs += [TrialSpec("random", seed, Condition(n_examples, n), rate) for n, rate in schedules]
    return specs


def _maskings(best: Schedule, seeds: Sequence[int], names: Sequence[str], n_examples: int) -> list[TrialSpec]:
    """Return the trials of the second phase: several maskings at the best schedule.

    Args:
        best: The best schedule.
        seeds: Seeds of the trials; the outermost loop is over seeds.
        names: Names of the maskings.
        n_examples: Number of labelled examples per fine-tuning run.

    Returns:
        Masking, seed, condition and learning rate of each trial.
    """
    condition = Condition(n_examples, best.steps)
    return [TrialSpec(name, seed, condition, best.learning_rate) for seed in seeds for name in names]


def _language_model(worker: AuditWorker) -> dict[str, Any]:
    """Return the masked-LM loss under fixed random masks, the entropy of word frequencies, and the margin, in nats."""
    corpus = worker.corpus
    rows = np.linspace(0, len(corpus) - 1, min(len(corpus), 512)).astype(np.int64)
    context = worker.session.context.silent()
    restore_state(context.model, worker.pretrained)
    loss = held_out_loss(context, corpus, rows, StreamName(0) / "audit" / "lm")
    entropy = unigram_entropy(corpus)
    return {"loss": loss, "unigram_entropy": entropy, "margin": entropy - loss}


def _leakage(worker: AuditWorker, reporter: Reporter) -> dict[str, int]:
    """Count validation examples that also occur in the training examples, and report overlaps with the corpus."""
    held_out = [example.passage for example in worker.validation.examples]
    seen = [example.passage for example in worker.train.examples]
    settings = worker.config.data
    if settings.drop_duplicates:  # the files or the split have none left
        found = Overlap("validation", "train", len(held_out), same=0, near=0)
    else:
        found = overlap("validation", "train", held_out, seen)
    if settings.corpus is not None and not (settings.drop_duplicates and settings.validation is not None):
        report_overlaps({"validation": held_out, "corpus": worker.session.loaded.corpus_texts}, reporter)
    return {"validation": found.n, "train": len(seen), "exact_duplicates": found.same, "near_duplicates": found.near}
