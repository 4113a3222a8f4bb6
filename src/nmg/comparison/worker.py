"""The worker of a comparison: everything that its cells share, held in one process."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nmg.adaptation.save import is_saved, save_lm
from nmg.base.distributed import as_one, described, is_main_process
from nmg.base.errors import UserError
from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName
from nmg.base.types import Outcome
from nmg.comparison.plan import Plan, with_labels
from nmg.comparison.trials import Cell, CellEvent, CellFolder, CellKey, Labelled, Origins
from nmg.config import Config
from nmg.data.corpus import Corpus
from nmg.data.task_data import distinct_texts
from nmg.executors.base import WorkerFactory
from nmg.masking.base import Masking
from nmg.policies.maskings import load_masking, masking_identity
from nmg.tasks.registry import task_kind
from nmg.training.lm import ModelState, copy_state
from nmg.training.masks import DrawnMasks
from nmg.trials.held_out import HeldOutText
from nmg.trials.inputs import SharedInputs
from nmg.trials.metered import MeteredMasking
from nmg.trials.provenance import changed_names, provenance
from nmg.trials.session import ModelSession, Session
from nmg.trials.trial import Encoded, Trial, inner_loop


@dataclass(frozen=True)
class ComparisonWorker:
    """Worker that runs the cells that share an adaptation and saves each as soon as it is done."""

    config: Config
    plan: Plan
    folder: CellFolder
    model: Session
    pretrained: ModelState
    corpus: Corpus
    maskings: dict[str, Masking]
    table_metrics: tuple[str, ...]
    save_models: bool
    provenances: Origins
    held_out: HeldOutText | None = None
    _trials: dict[tuple[int, Labelled], Trial] = field(default_factory=dict)
    """Trials of the current seed, by (seed, labels)."""

    @classmethod
    def open(
        cls,
        config: Config,
        plan: Plan,
        folder: CellFolder,
        reporter: Reporter,
        *,
        save_models: bool,
        is_checked: bool = False,
        inputs: SharedInputs | None = None,
    ) -> "ComparisonWorker":
        """Read and check everything, but do not yet warm up a head that the checkpoint lacks.

        Args:
            config: The settings that cells run under.
            plan: The cells of the comparison.
            folder: The folder that the cells are saved in.
            reporter: Receives messages for the user.
            save_models: Whether to save the adapted LMs of the first seed.
            is_checked: Whether another process has already run the preflight.
            inputs: What the sessions of a command share; None if there is only one session.

        Returns:
            The worker. Its settings have the precision that the preflight found to work.

        Raises:
            UserError: Settings, data or model do not fit together.
        """
        model = Session.open_all(config, reporter, inputs)
        if not is_checked:
            model = model.preflight()
            config = model.config
        corpus = model.corpus(model.loaded.corpus_texts)
        maskings = {
            name: load_masking(name, model.lm, corpus, config.masking, path, config.test, reporter)
            for name, path in plan.maskings.items()
        }
        pretrained, metrics = copy_state(model.lm.model), model.task.table_metrics
        provenances = cell_origins(config, plan, corpus, model, pretrained)
        return cls(config, plan, folder, model, pretrained, corpus, maskings, metrics, save_models, provenances)

    @property
    def factory(self) -> WorkerFactory:
        """Opens the same worker in another process, from files and caches."""
        return partial(_reopened, self.config, self.plan, self.folder, self.save_models, self.provenances)

    def with_head(self) -> "ComparisonWorker":
        """A copy whose missing LM head is warmed up and which has held-out text to score adapted models on."""
        self.model.warm_up_head(self.corpus)
        # Use the whole test set even if cells are scored on a sample of it.
        loaded = self.model.loaded
        held_out = HeldOutText.build(self.model, distinct_texts(loaded.test or ()), loaded.corpus_texts)
        return replace(self, pretrained=copy_state(self.model.lm.model), held_out=held_out)

    def is_complete(self, key: CellKey) -> bool:
        """Whether the cell's adapted model is saved, or need not be."""
        model = self._model_folder(key)
        return model is None or is_saved(model)

    def run(self, _shared: None, job: list[CellKey]) -> list[CellEvent]:
        """Adapt once, then fine-tune and score for each cell of the job. A failed cell does not stop the others."""
        events, remaining = [], list(job)
        while remaining:
            try:
                with as_one():
                    for event in self._run(remaining):
                        events.append(event)
                        remaining.pop(0)
            except Exception as error:
                key, (problem, report) = remaining.pop(0), described(error)
                with as_one():
                    if is_main_process():
                        self.folder.save_error(key, report)
                events.append(CellEvent(key, problem=problem))
        return events

    def _run(self, keys: list[CellKey]) -> Any:
        """Yield the event of each cell; all `keys` share one adaptation."""
        key, context = keys[0], self.model.context
        masking = MeteredMasking(key.masking, self.maskings[key.masking])
        masks = DrawnMasks(self.corpus, masking, self.config.test.remask) if key.masking != "none" else None
        trials = [self._trial(one.seed, one.condition.labelled) for one in keys]
        randomness = StreamName(key.seed) / "meta-test"
        loop = inner_loop(context, self.pretrained, masks, trials, randomness, key.condition.adapt_steps)
        held_out: tuple[float | None, float] | None = None
        for own_key, trial, outcome in zip(list(keys), trials, loop, strict=True):
            with as_one():
                held_out = held_out or (self.held_out.loss(context) if self.held_out else (None, 0.0))
                cell = self._cell(own_key, trial, outcome, masking.seconds, *held_out)
                cell.check_finite()
                if is_main_process():
                    self._save(cell)
            yield CellEvent(own_key, cell)

    def _save(self, cell: Cell) -> None:
        model = self._model_folder(cell.key)
        if model is not None and not is_saved(model):
            save_lm(self.model.lm, model)
        self.folder.save(cell)

    def _trial(self, seed: int, labelled: Labelled) -> Trial:
        """Training and test set of a seed, encoded on first use and cached until another seed is requested."""
        if (seed, labelled) not in self._trials:
            data = self.model.loaded.sample(with_labels(self.config.data, labelled), seed)
            assert data.test is not None, "there is a test set: `Comparison.open` has checked it"
            kind = task_kind(self.config.data.task)
            task = kind.build(self.model.lm.tokenizer, data.train, self.config.finetune)
            train = Encoded.of(task, data.train)
            same_test = (t.held_out for t in self._trials.values() if t.held_out.examples == data.test)
            test = next(same_test, None) or Encoded.of(task, data.test)
            if any(kept != seed for kept, _ in self._trials):
                self._trials.clear()
            rows = np.arange(len(train.features))
            self._trials[seed, labelled] = Trial(task, train, rows, test, self.config.test.evaluation)
        return self._trials[seed, labelled]

    def _cell(
        self, key: CellKey, trial: Trial, outcome: Outcome, masks: float, loss: float | None, measuring: float
    ) -> Cell:
        return Cell(
            masking=key.masking,
            seed=key.seed,
            scores=dict(outcome.scores),
            lm_loss=outcome.lm_loss if outcome.lm_steps else None,  # NaN if there was no step
            lm_steps=outcome.lm_steps,
            task_steps=outcome.task_steps,
            masked_tokens=outcome.masked_tokens,
            seconds={
                **outcome.seconds,
                "total": sum(outcome.seconds.values()),
                "masks": masks,
                "held_out": measuring,
            },
            labelled=key.condition.labelled,
            adapt_steps=key.condition.adapt_steps,
            n_labelled=len(trial.train.examples),
            tokens=outcome.tokens,
            held_out_loss=loss,
            provenance=self.provenances.of(key.masking),
            environment=self.model.runtime.environment(),
        )

    def _model_folder(self, key: CellKey) -> Path | None:
        """Folder for the cell's adapted LM, or None if the model is not saved."""
        if not self.save_models or key.seed != self.plan.seeds[0] or key.condition != self.plan.settings[0]:
            return None
        # A masking may be named by the path of a folder.
        return self.folder.out / "models" / key.masking.strip("/").replace("/", "-")


def _reopened(
    config: Config, plan: Plan, folder: CellFolder, save_models: bool, then: Origins, threads: int
) -> ComparisonWorker:
    """Open a worker as in the main process, with `threads` torch threads.

    Raises UserError if files or models differ from those of the process that opened the comparison. They may have
    changed since then, or differ on another machine.
    """
    config = config.with_threads(threads)
    worker = ComparisonWorker.open(config, plan, folder, Silent(), save_models=save_models, is_checked=True)
    for masking in plan.names:
        changed = changed_names(then.of(masking), worker.provenances.of(masking))
        if changed:
            raise UserError(f"{', '.join(changed)}: changed during the run; leave all input files unchanged")
    return worker.with_head()


def cell_origins(config: Config, plan: Plan, corpus: Corpus, model: ModelSession, pretrained: ModelState) -> Origins:
    """The provenance of the cells of a comparison.

    Args:
        config: The settings that cells run under.
        plan: The cells of the comparison.
        corpus: The text to adapt on.
        model: The open model and its tokenizer.
        pretrained: The weights that every cell starts from.

    Returns:
        Digests of settings, data and model, and the identity of each masking.

    Raises:
        UserError: A file cannot be read.
    """
    fields = ["train", "test", *(["validation"] if config.data.drop_duplicates else [])]
    common = provenance(config, fields, corpus.digest, model.lm, pretrained)
    return Origins(common, {name: masking_identity(name, config.masking, path) for name, path in plan.maskings.items()})
