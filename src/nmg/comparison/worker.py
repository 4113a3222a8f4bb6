"""The worker of a comparison: the model, data and maskings that its trials share, held in one process."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from nmg.adaptation.save import is_saved, save_lm
from nmg.base.distributed import as_one, described, is_main_process
from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName
from nmg.base.trial import ExampleScores, Labelled, TrialResult, TrialSpec
from nmg.comparison.plan import Plan, with_labels
from nmg.config import Config
from nmg.data.corpus import Corpus
from nmg.data.task_data import distinct_texts
from nmg.executors.base import WorkerFactory
from nmg.masking.base import Masking
from nmg.policies.maskings import load_masking, masking_identity
from nmg.tasks.registry import task_kind
from nmg.training.lm import ModelState, copy_state
from nmg.training.lora import check_lora, lora_targets
from nmg.training.masks import DrawnMasks
from nmg.trials.held_out import HeldOutText
from nmg.trials.inputs import SharedInputs
from nmg.trials.metered import MeteredMasking
from nmg.trials.provenance import TrialProvenance, provenance
from nmg.trials.session import ModelSession, Session
from nmg.trials.trial import Encoded, Trial, run_trials

LOSS_DIGITS = 5
"""Number of decimals of the stored losses of single texts; all digits would take most of the file."""


@dataclass(frozen=True)
class ComparisonWorker:
    """The worker of a comparison; each of its jobs is the list of trials that share one adaptation."""

    config: Config
    plan: Plan
    out: Path
    model: Session
    pretrained: ModelState
    corpus: Corpus
    maskings: dict[str, Masking]
    table_metrics: tuple[str, ...]
    save_models: bool
    provenance: TrialProvenance
    held_out: HeldOutText | None = None
    _data: dict[tuple[int, Labelled], Trial] = field(default_factory=dict)
    """(seed, labels) → a trial with the encoded data; only the current seed is kept."""

    @classmethod
    def open(
        cls,
        config: Config,
        plan: Plan,
        out: Path,
        reporter: Reporter,
        *,
        save_models: bool,
        is_checked: bool = False,
        inputs: SharedInputs | None = None,
    ) -> "ComparisonWorker":
        """Read and check all inputs, but do not yet warm up a head that the checkpoint lacks.

        Args:
            config: The settings that trials run under.
            plan: The trials of the comparison.
            out: The folder of the comparison.
            reporter: Receives messages for the user.
            save_models: Whether to save the adapted LMs of the first seed.
            is_checked: Whether another process has already run the preflight.
            inputs: Data and models that the sessions of a command share; None if there is only one session.

        Returns:
            The worker. Its settings have the precision that the preflight found to work.

        Raises:
            UserError: Settings, data or model do not fit together.
        """
        model = Session.open_all(config, reporter, inputs)
        if not is_checked:
            model = model.preflight()
            config = model.config
        if any(plan.lora_ranks):  # check before any trial
            check_lora(config.adapt.lora.model_copy(update={"rank": max(rank or 0 for rank in plan.lora_ranks)}))
            lora_targets(model.lm.model, config.adapt.lora)
        corpus = model.corpus(model.loaded.corpus_texts)
        maskings = {
            name: load_masking(name, model.lm, corpus, config.masking, path, config.test, reporter)
            for name, path in plan.maskings.items()
        }
        pretrained, metrics = copy_state(model.lm.model), model.task.table_metrics
        made_from = trial_provenance(config, plan, corpus, model, pretrained)
        return cls(config, plan, out, model, pretrained, corpus, maskings, metrics, save_models, made_from)

    @property
    def factory(self) -> WorkerFactory:
        """Function that opens the same worker in another process, from files and caches."""
        return partial(_reopened, self.config, self.plan, self.out, self.save_models, self.provenance)

    def with_head(self) -> "ComparisonWorker":
        """Warm up an LM head that the checkpoint lacks, and return a copy with held-out text to score LMs on."""
        self.model.warm_up_head(self.corpus)
        # Use the whole test set even if trials are scored on a sample of it.
        loaded = self.model.loaded
        held_out = HeldOutText.build(self.model, distinct_texts(loaded.test or ()), loaded.corpus_texts)
        return replace(self, pretrained=copy_state(self.model.lm.model), held_out=held_out)

    def is_complete(self, spec: TrialSpec) -> bool:
        """Return whether the adapted model of the trial is saved or does not have to be."""
        model = self._model_folder(spec)
        return model is None or is_saved(model)

    def run(self, _shared: None, job: Sequence[TrialSpec]) -> list[TrialResult]:
        """Adapt once, evaluate each trial of the job, and return one result per trial.

        A failed trial does not stop the others; its result has the error and the traceback.
        """
        results: list[TrialResult] = []
        while len(results) < len(job):
            try:
                with as_one():
                    for result in self._run(job[len(results) :]):
                        results.append(result)
            except Exception as error:
                problem, report = described(error)
                results.append(TrialResult(job[len(results)], {}, error=problem, traceback=report))
        return results

    def _run(self, specs: Sequence[TrialSpec]) -> Iterator[TrialResult]:
        """Yield the result of each trial; all `specs` share one adaptation."""
        name = specs[0].masking
        masking = MeteredMasking(name, self.maskings[name])
        masks = DrawnMasks(self.corpus, masking, self.config.test.remask) if name != "none" else None
        trials = [self._trial(spec) for spec in specs]
        randomness = StreamName(specs[0].seed) / "meta-test"
        measure = None if self.held_out is None else self.held_out.loss
        results = run_trials(self.model.context, self.pretrained, masks, trials, randomness, measure)
        for trial, result in zip(trials, results, strict=True):
            with as_one():
                model = self._model_folder(trial.spec) if result.error is None and is_main_process() else None
                if model is not None and not is_saved(model):
                    save_lm(self.model.lm, model)
            seconds = {**result.seconds, "masks": masking.seconds}
            kept = self._of_texts(result.example_scores)
            yield replace(result, example_scores=kept, seconds=seconds, n_labelled=len(trial.train.examples))

    def _of_texts(self, scores: Mapping[str, ExampleScores]) -> dict[str, ExampleScores]:
        """Return the scores of single texts that are stored: the metric of the tests, and the loss in few digits."""
        kept = {name: found for name, found in scores.items() if name == self.table_metrics[0]}
        return kept if "loss" not in scores else {"loss": np.round(scores["loss"], LOSS_DIGITS), **kept}

    def _trial(self, spec: TrialSpec) -> Trial:
        """Return the trial with its training and test set, which are encoded once per seed and number of labels."""
        seed, labelled = spec.seed, spec.condition.labelled
        if (seed, labelled) not in self._data:
            data = self.model.loaded.sample(with_labels(self.config.data, labelled), seed)
            assert data.test is not None, "there is a test set: `Comparison.open` has checked it"
            kind = task_kind(self.config.data.task)
            task = kind.build(self.model.lm.tokenizer, data.train, self.config.finetune)
            train = Encoded.of(task, data.train)
            same_test = (one.held_out for one in self._data.values() if one.held_out.examples == data.test)
            test = next(same_test, None) or Encoded.of(task, data.test)
            if any(kept != seed for kept, _ in self._data):
                self._data.clear()
            self._data[seed, labelled] = Trial(spec, task, train, np.arange(len(train.features)), test)
        return replace(self._data[seed, labelled], spec=spec)

    def _model_folder(self, spec: TrialSpec) -> Path | None:
        """Return the folder for the adapted LM of the trial, or None if the model is not saved."""
        if not self.save_models or spec.seed != self.plan.seeds[0] or spec.condition != self.plan.settings[0]:
            return None
        # A masking may be named by the path of a folder.
        return self.out / "models" / spec.masking.strip("/").replace("/", "-")


def _reopened(
    config: Config, plan: Plan, out: Path, save_models: bool, then: TrialProvenance, threads: int
) -> ComparisonWorker:
    """Open the worker of a comparison in another process.

    Args:
        config: The settings that trials run under.
        plan: The trials of the comparison.
        out: The folder of the comparison.
        save_models: Whether to save the adapted LMs of the first seed.
        then: The provenance in the process that opened the comparison.
        threads: Number of torch threads.

    Returns:
        The worker, ready to run trials.

    Raises:
        UserError: Files or models differ from `then`, because they have changed or differ on another machine.
    """
    worker = ComparisonWorker.open(
        config.with_threads(threads), plan, out, Silent(), save_models=save_models, is_checked=True
    )
    then.require_same(worker.provenance)
    return worker.with_head()


def trial_provenance(
    config: Config, plan: Plan, corpus: Corpus, model: ModelSession, pretrained: ModelState
) -> TrialProvenance:
    """Return the provenance of the trials of a comparison.

    Args:
        config: The settings that trials run under.
        plan: The trials of the comparison.
        corpus: The text to adapt on.
        model: The open model and its tokenizer.
        pretrained: The weights that every trial starts from.

    Returns:
        Digests of settings, data and model, and of what each masking reads.

    Raises:
        UserError: A file cannot be read.
    """
    fields = ["train", "test", *(["validation"] if config.data.drop_duplicates else [])]
    common = provenance(config, fields, corpus.digest, model, pretrained)
    reads = {name: masking_identity(name, config.masking, path) for name, path in plan.maskings.items()}
    return TrialProvenance(common, reads)
