"""Adapts one model to one corpus (further pre-training), and saves it in a folder that transformers loads."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from nmg.adaptation.card import CARD, adapted_card
from nmg.adaptation.examples import Guesses, compared
from nmg.adaptation.folder import AdaptationFolder
from nmg.adaptation.forgetting import GeneralResult, GeneralText, read_general
from nmg.adaptation.held_out import CorpusSplit, HeldOutLoss, split_corpus
from nmg.adaptation.length import affordable_steps, evaluate_every, steps_of
from nmg.adaptation.mask_counts import CountedMasks, MaskCounts
from nmg.adaptation.recipes import Recipe
from nmg.adaptation.recorder import OnStep, Recorder
from nmg.adaptation.result import AdaptationResult, HeldOutResult
from nmg.adaptation.save import save_lm
from nmg.adaptation.terms import Terms, find_terms
from nmg.base.distributed import as_one, from_first, is_main_process
from nmg.base.files import as_json
from nmg.base.fingerprint import model_digest
from nmg.base.outputs import output_lock
from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName
from nmg.base.trial import TrainingStats
from nmg.config import Config
from nmg.data.cutting import tokenizer_digest
from nmg.masking.base import Masking
from nmg.policies.maskings import load_masking, masking_identity
from nmg.tasks.loaded import load_corpus_texts
from nmg.training.adapt import adapt
from nmg.training.keep_best import KeepBest
from nmg.training.masks import DrawnMasks
from nmg.training.runtime import package_versions
from nmg.trials.session import ModelSession
from nmg.trials.trackers import LogNumbers, check_trackers, start_trackers
from nmg.vocabulary.setting import WordsToAdd
from nmg.vocabulary.terms import read_terms


def adapt_corpus(
    config: Config,
    masking: str | Masking,
    out: Path,
    reporter: Reporter | None = None,
    *,
    resume: bool = False,
    on_step: OnStep = lambda _record, _steps: None,
) -> AdaptationResult:
    """Adapt `config.model` to the text of `config.data.corpus`, and save model, tokenizer and nmg.json in `out`.

    Args:
        config: The settings of the run.
        masking: The name of a masking, the folder of a policy, or a custom masking.
        out: The output folder; it must be empty or missing, unless the run is resumed.
        reporter: Receives messages for the user; None for no messages.
        resume: Whether to continue the run in `out` from its last checkpoint, as if it had not been interrupted.
        on_step: Called about once a second with the last line of the log and the number of steps of the run.

    Returns:
        Losses, number of steps and tokens, and wall time in seconds.

    Raises:
        UserError: Settings, text, model or policy are invalid, `out` cannot be used, or training diverges. Also if the
            run in `out` is finished or was begun with other settings, text or model.
    """
    began, folder = time.perf_counter(), AdaptationFolder(out)
    with as_one():
        if not resume:
            folder.check_new()
        check_trackers(config)
    with as_one(), output_lock(out):
        if resume and is_main_process():
            folder.check_unfinished(keep_checkpoint=config.runtime.keep_checkpoint)
        prepared = _prepare(config, masking, reporter or Silent())
        config = prepared.config
        if is_main_process() and resume:
            folder.check_settings(config, prepared.name)
            folder.check_inputs(prepared.inputs, prepared.session.runtime)
        elif is_main_process():
            folder.begin(config, prepared.name, prepared.inputs, prepared.session.runtime)
        session = prepared.session
        session.warm_up_head(prepared.split.training)
        with start_trackers(config if is_main_process() else _without_trackers(config), out) as track:
            run = _Run(folder, prepared, track, on_step, resume=resume, began=began)
            result = run.train()
        if is_main_process():
            facts = {**result.to_json(), **prepared.facts}
            save_lm(session.lm, out, {"nmg.json": as_json(facts, indent=1) + "\n", CARD: adapted_card(facts)})
            folder.finish(keep_checkpoint=config.runtime.keep_checkpoint)
    return result


def _without_trackers(config: Config) -> Config:
    """Return the settings without trackers, for processes that do not log."""
    return config.model_copy(update={"runtime": config.runtime.model_copy(update={"trackers": ()})})


@dataclass(frozen=True)
class _Prepared:
    """The model, text and masking of an adaptation, and facts about them."""

    config: Config
    """The settings, with the recipe's values for those that the user did not give."""
    recipe_changed: tuple[str, ...]
    """Names of the settings whose values are not those of the recipe."""
    session: ModelSession
    split: CorpusSplit
    general: GeneralText | None
    """Text of `adapt.general_corpus`."""
    terms: Terms | None
    """Terms of `adapt.terms`."""
    masking: Masking
    name: str
    """Name of the masking as the caller gave it."""
    inputs: Mapping[str, str]
    """Name → digest of each file, model or other content that the result depends on besides the settings."""
    facts: Mapping[str, Any]
    """Facts of nmg.json about the settings and the inputs."""


def _prepare(config: Config, masking: str | Masking, reporter: Reporter) -> _Prepared:
    """Read the text, load model and masking, and test the model."""
    to_add = None if config.adapt.add_words is None else WordsToAdd.read(config.adapt.add_words)
    texts, general_texts = load_corpus_texts(config.data), read_general(config.adapt.general_corpus)
    terms, given_terms = None, () if config.adapt.terms is None else read_terms(config.adapt.terms)
    session, added = ModelSession.open(config, reporter), None
    lm = session.lm
    inputs = {
        "model.name": model_digest(lm.model.state_dict(), lm.model.config, without=lm.new_parameters),
        "tokenizer": tokenizer_digest(lm.tokenizer),
    }
    if to_add is not None:
        lm, added = to_add.add_to(lm, texts, reporter)
        session, inputs["adapt.add_words"] = replace(session, lm=lm), added.digest
    session = session.preflight(texts)
    whole = session.corpus(texts)
    randomness = StreamName(config.run.seed) / "adapt" / "held-out"
    split = split_corpus(texts, whole, config.adapt.held_out, randomness, reporter)
    length, is_lora = float(split.training.lengths.mean()), config.adapt.lora.rank > 0
    recipe = Recipe.of(config.adapt.recipe, _parameters(lm.model), length, is_lora=is_lora)
    config = recipe.apply(config, reporter)
    settled = {"masking": config.masking, "adapt": config.adapt}
    session = replace(session, config=session.config.model_copy(update=settled))
    general = None
    if general_texts is not None:
        general = GeneralText.read(session, general_texts)
        inputs["adapt.general_corpus"] = general.digest
    if config.adapt.terms is not None:
        sources = (texts, general_texts, split.held_out)
        terms = find_terms(config.adapt.terms, given_terms, *sources, session.lm, reporter)
        inputs["adapt.terms"] = "not measured" if terms is None else terms.digest
    reads: dict[str, str] = {}
    name = masking if isinstance(masking, str) else masking.name
    if isinstance(masking, str):
        reads = masking_identity(masking, config.masking)
        masking = load_masking(masking, lm, split.training, config.masking, test=config.test, reporter=reporter)
    facts = {
        "masking_reads": reads,
        "added_words": None if added is None else added.to_json(),
        "corpus_digest": split.training.digest,
        "versions": package_versions(),
    }
    inputs |= {"data.corpus": whole.digest, **reads}
    return _Prepared(
        config, tuple(recipe.changed(config)), session, split, general, terms, masking, name, inputs, facts
    )


def _parameters(model: PreTrainedModel) -> int:
    """Return the number of parameters besides the word table."""
    return int(model.num_parameters() - model.get_input_embeddings().weight.numel())


@dataclass(frozen=True)
class _Run:
    """The training of an adaptation, new or resumed."""

    folder: AdaptationFolder
    prepared: _Prepared
    track: LogNumbers
    on_step: OnStep
    resume: bool
    began: float
    """`perf_counter` at which the command began."""

    def train(self) -> AdaptationResult:
        """Train the model in place, and measure it on general text and on terms before and after."""
        context, general, terms = self.prepared.session.context, self.prepared.general, self.prepared.terms
        began = time.perf_counter()
        loss = None if general is None else general.loss(context)
        loss_before = None if loss is None else loss.of(context)
        terms_before = None if terms is None else terms.measure(context)
        result = self._train(time.perf_counter() - began)
        if general is not None and loss is not None and loss_before is not None:
            replay = general.replay(self.prepared.split.training) if result.steps else None
            result = replace(result, general=GeneralResult.of(loss, loss_before, loss.of(context), replay))
        if terms is not None and terms_before is not None:
            measured = terms.result(terms_before, terms.measure(context), self.prepared.session.lm)
            result = replace(result, terms=measured)
        return result

    def _train(self, seconds_after: float) -> AdaptationResult:
        """Train the model in place, and measure its loss on held-out text before, during and after.

        `seconds_after` is the time that measurements after the training will take.
        """
        session, split = self.prepared.session, self.prepared.split
        context, settings = session.context, session.config.adapt
        held_out = None
        if split.held_out is not None:
            held_out = HeldOutLoss.build(context, split.held_out, self._randomness / "held-out")
        if self.prepared.masking.name == "none":
            loss = None if held_out is None else held_out.of(context)
            measured = None if held_out is None or loss is None else _in_short(held_out, [(0, loss)], loss, 0)
            return self._result(TrainingStats(), 0.0, measured, is_best=False)
        masks = DrawnMasks(split.training, self.prepared.masking, session.config.test.remask)
        if self.prepared.general is not None:
            masks = self.prepared.general.mixed_into(masks)
        steps = self._n_steps(masks, held_out, seconds_after)
        watch = None
        if held_out is not None:
            every = evaluate_every(settings, steps)
            watch = KeepBest(lambda: held_out.of(context), every, settings.patience)
        minutes = session.config.runtime.checkpoint_minutes
        counts = MaskCounts(context.model.get_input_embeddings().num_embeddings)
        before = None if held_out is None else Guesses.of(held_out, context)
        recorder = Recorder(self.folder.path, session.reporter, self.track, self.on_step, minutes, self.resume)
        trained = adapt(
            replace(context, adapt_steps=steps),
            CountedMasks(masks, counts),
            self._randomness,
            watch=watch,
            observer=recorder,
        )
        measured = None
        if held_out is not None and watch is not None:
            measured = _in_short(held_out, watch.measured, watch.best, watch.best_step)
        result = self._result(trained, recorder.seconds, measured, is_best=settings.patience is not None)
        tokenizer, examples = session.lm.tokenizer, []
        if held_out is not None and before is not None:
            examples = compared(before, Guesses.of(held_out, context), tokenizer)
        return replace(result, masked=counts.extremes(tokenizer), examples=examples)

    @property
    def _randomness(self) -> StreamName:
        return StreamName(self.prepared.session.config.run.seed) / "adapt"

    def _n_steps(self, masks: DrawnMasks, held_out: HeldOutLoss | None, seconds_after: float) -> int:
        """Return the number of steps of the run, and record it when the run begins.

        Args:
            masks: Text and masks to adapt on.
            held_out: Loss on held-out text; None if no text is held out.
            seconds_after: Time that measurements after the training will take, in seconds.

        Returns:
            The recorded number of a resumed run; otherwise the number that the settings give or that the time allows.
        """
        context = self.prepared.session.context
        minutes = context.adapt.minutes
        steps = from_first(self.folder.planned_steps if is_main_process() else None)
        if steps is None and minutes is not None:
            left = 60 * minutes - seconds_after - (time.perf_counter() - self.began)
            measure = (lambda: held_out.of(context)) if held_out is not None else (lambda: None)
            steps = from_first(affordable_steps(context, masks, self._randomness / "speed", left, measure))
            context.reporter.notify(f"adapt.minutes: {minutes:g} minutes are about {steps} steps")
        if steps is None:
            steps = steps_of(context.adapt, masks)
        if is_main_process():
            self.folder.plan(steps)
        return steps

    def _result(
        self, trained: TrainingStats, seconds: float, held_out: HeldOutResult | None, *, is_best: bool
    ) -> AdaptationResult:
        """Return the result of the adaptation.

        Args:
            trained: Statistics of the training.
            seconds: Wall time of the training, in seconds.
            held_out: Loss on held-out text; None if no text was held out.
            is_best: Whether the saved weights are those with the lowest held-out loss.

        Returns:
            The result, without the loss on general text.
        """
        split = self.prepared.split
        return AdaptationResult(
            out=self.folder.path,
            config=self.prepared.config,
            recipe_changed=self.prepared.recipe_changed,
            masking=self.prepared.masking.name,
            steps=trained.steps,
            loss=float("nan") if trained.loss is None else trained.loss,
            seconds=seconds,
            documents=len(np.unique(split.training.context_ids)),
            blocks=len(split.training),
            tokens=trained.tokens,
            masked_tokens=trained.masked_tokens,
            lora_rank=self.prepared.session.config.adapt.lora.rank,
            is_best=is_best and held_out is not None,
            near_duplicates=split.near_duplicates,
            held_out=held_out,
        )


def _in_short(held_out: HeldOutLoss, measured: list[tuple[int, float]], best: float, step: int) -> HeldOutResult:
    """Summarise the measurements of the loss on held-out text.

    Args:
        held_out: The loss that was measured.
        measured: (step, loss) of each measurement, in order.
        best: The lowest loss.
        step: Number of steps after which `best` was measured.

    Returns:
        The first, last and lowest loss, and the size of the measured text.
    """
    sizes = (held_out.documents, len(held_out.lengths), held_out.masked_tokens)
    return HeldOutResult(measured[0][1], measured[-1][1], best, step, *sizes)
