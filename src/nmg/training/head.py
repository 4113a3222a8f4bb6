"""Trains a missing LM head: first in closed form, then alone, then with the whole model at a low learning rate."""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from safetensors.torch import load_file
from torch import nn

from nmg.base.distributed import as_one, from_first, is_main_process
from nmg.base.files import as_json, save_tensors, write_text
from nmg.base.fingerprint import state_digest
from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings, ModelSettings
from nmg.base.training_settings import OptimiserSettings
from nmg.base.types import IntArray
from nmg.masking.rules import RandomMasking
from nmg.training.context import TrainingContext
from nmg.training.fit import fit
from nmg.training.head_init import init_head_closed_form
from nmg.training.keep_best import KeepBest
from nmg.training.lm import PretrainedLM, masked_lm_loss
from nmg.training.lm_quality import held_out_loss, unigram_entropy
from nmg.training.masks import DrawnMasks

if TYPE_CHECKING:
    from nmg.data.corpus import Corpus

VERSION = 3
"""Version of the procedure, part of every digest. Increase it if the resulting head changes."""
MASKING = MaskingSettings(rate=0.2)
"""Masking settings for training the head. They are independent of the run's masking."""
HELD_OUT_SHARE, LEAST_HELD_OUT, HELD_OUT_TOKENS = 0.05, 32, 20_000
"""Held-out blocks: fraction of all blocks, minimum number of blocks, and maximum number of tokens."""
LOOK_EVERY, PATIENCE = 50, 3
"""Steps between two held-out measurements. A stage ends after `PATIENCE` measurements without a new best."""
ENOUGH = 1.0
"""Minimum of unigram entropy minus loss, in nats; below this difference, a head counts as barely trained."""


@dataclass(frozen=True)
class HeadQuality:
    """Result of training a new head."""

    loss: float
    """Masked-LM loss on held-out blocks, in nats per masked token (`lm_quality.held_out_loss`)."""
    unigram: float
    """Unigram entropy of the text, in nats per token (`lm_quality.unigram_entropy`)."""
    stages: Sequence[tuple[str, float, int]]
    """Name, final loss (nats) and number of steps of each stage."""
    seconds: float
    """Wall time of the training, in seconds."""

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Read the quality from its JSON form, in which null means NaN."""
        loss, unigram = (math.nan if facts[name] is None else facts[name] for name in ("loss", "unigram"))
        stages = [(name, math.nan if value is None else value, steps) for name, value, steps in facts["stages"]]
        return cls(loss, unigram, stages, facts["seconds"])

    def lines(self) -> list[str]:
        """Return messages for the user: the loss, and a warning if the head is hardly better than word frequencies."""
        course = " → ".join(f"{name} {loss:.2f}" + f" ({n} steps)" * (n > 0) for name, loss, n in self.stages)
        lines = [
            f"New LM head: held-out masked-LM loss {self.loss:.2f} nats, {abs(self.unigram - self.loss):.2f} "
            f"{'below' if self.loss <= self.unigram else 'ABOVE'} the unigram entropy of {self.unigram:.2f} "
            f"({course}; {self.seconds:.0f} s)"
        ]
        if not self.unigram - self.loss >= ENOUGH:
            lines.append(
                f"warning: the loss of this LM head is less than {ENOUGH:g} nat below that of guessing by word "
                "frequency. Adaptation will then mostly train the head, and its results say little about masks. Use a "
                "model with a trained LM head (model.name), more text, or more steps (model.head_tuning_steps)."
            )
        return lines


def warm_up_missing_head(
    lm: PretrainedLM, context: TrainingContext, settings: ModelSettings, corpus: "Corpus", seed: int, cache: Path
) -> HeadQuality | None:
    """Train the LM head that the checkpoint lacks, or load it from the cache.

    Args:
        lm: The LM as loaded.
        context: Context with the same model.
        settings: Model settings, with the steps and learning rates of the training.
        corpus: Text to train on.
        seed: Seed of the run.
        cache: Cache folder. A cached head is used if model, text, settings and seed are the same.

    Returns:
        The quality of the head, or None if the checkpoint has a head or `model.head_warmup_steps` is 0.
    """
    if not lm.new_parameters or settings.head_warmup_steps == 0:
        return None
    cached = head_file(context, settings, corpus, seed, cache)
    facts = cached.with_suffix(".json")
    # In data-parallel training, the cache of rank 0 decides, because each machine may have a different cache.
    if from_first(cached.is_file() and facts.is_file()):
        quality = _kept_head(lm, context, cached)
    else:
        context.reporter.notify(
            f"'{lm.name}' has no LM head. A new one, tied to the embeddings, is trained on the text: at most "
            f"{settings.head_warmup_steps} steps alone and {settings.head_tuning_steps} steps with the whole model."
        )
        quality = make_head(lm, context, settings, corpus, head_randomness(seed))
        trained = lm.model.named_parameters()
        keeps_all = settings.head_tuning_steps > 0
        with as_one():
            if is_main_process():
                write_text(facts, as_json(asdict(quality)) + "\n")
                save_tensors(cached, {name: p for name, p in trained if keeps_all or name in lm.new_parameters})
    for line in quality.lines():
        context.reporter.notify(line)
    return quality


def _kept_head(lm: PretrainedLM, context: TrainingContext, cached: Path) -> HeadQuality:
    """Load the head from the cache of rank 0 into `lm` on all processes."""
    quality: HeadQuality | None = None
    with as_one():
        if is_main_process():
            lm.model.load_state_dict(load_file(cached), strict=False)
            quality = HeadQuality.from_json(json.loads(cached.with_suffix(".json").read_text("utf-8")))
    quality = from_first(quality)
    context.runtime.sharing.take_first([parameter.data for parameter in lm.model.parameters()])
    assert quality is not None, "rank 0 read the file"
    return quality


def head_file(context: TrainingContext, settings: ModelSettings, corpus: "Corpus", seed: int, cache: Path) -> Path:
    """Return the cache file of a trained head.

    Args:
        context: Context with the model before the training.
        settings: Model settings.
        corpus: Text to train on.
        seed: Seed of the run.
        cache: Cache folder.

    Returns:
        The path of the file, which may not exist yet.
    """
    return cache / f"head-{_digest(context, settings, corpus, seed)}.safetensors"


def head_randomness(seed: int) -> StreamName:
    """Return the random stream for training the head."""
    return StreamName(seed) / "head warm-up"


def make_head(
    lm: PretrainedLM, context: TrainingContext, settings: ModelSettings, corpus: "Corpus", randomness: StreamName
) -> HeadQuality:
    """Train a new LM head in three stages. Each stage keeps the weights with its lowest held-out loss.

    1. Closed form (`head_init`).
    2. Only the new parameters, because an untrained head would send noise through the encoder.
    3. The whole model at a low learning rate.

    Output embeddings stay tied to the input embeddings. Without the third stage, the encoder does not change.

    Args:
        lm: The LM with the new head, trained in place.
        context: Context with the same model.
        settings: Steps and learning rates of the stages.
        corpus: Text to train on.
        randomness: Random stream.

    Returns:
        The quality of the head.
    """
    began = time.perf_counter()
    held_out, rows = split_rows(corpus, randomness / "held-out")

    def loss() -> float:
        """Measure the held-out loss of the current model."""
        return held_out_loss(context, corpus, held_out, randomness / "held-out")

    with as_one():
        init_head_closed_form(lm, context, corpus, rows, randomness / "closed form", loss)
    # Forward passes round differently on different GPUs, so the processes may have decided differently.
    context.runtime.sharing.take_first([parameter.data for parameter in lm.newly_initialized()])
    stages = [("closed form", loss(), 0)]
    names = ("model.head_warmup_learning_rate", "model.head_tuning_learning_rate")
    rates = (settings.head_warmup_learning_rate, settings.head_tuning_learning_rate)
    alone = _Stage("head", "LM head warm-up", settings.head_warmup_steps, names[0], rates[0])
    whole = _Stage("whole model", "LM with its new head", settings.head_tuning_steps, names[1], rates[1], 0.05)
    for stage, parameters in ((alone, lm.newly_initialized()), (whole, list(lm.model.parameters()))):
        if stage.steps:
            watch = KeepBest(loss, LOOK_EVERY, PATIENCE)
            steps = stage.train(context, corpus, rows, parameters, randomness / stage.name, watch)
            stages.append((stage.name, watch.best, steps))
    return HeadQuality(stages[-1][1], unigram_entropy(corpus), stages, time.perf_counter() - began)


def split_rows(corpus: "Corpus", randomness: StreamName) -> tuple[IntArray, IntArray]:
    """Divide the blocks of a corpus into held-out and training blocks.

    A small corpus holds out a quarter of its blocks. If it has fewer than four blocks, all blocks are in both parts.

    Returns:
        Held-out rows and training rows, int [B], both in ascending order.
    """
    order = randomness.generator().permutation(len(corpus))
    n_affordable = int(np.searchsorted(np.cumsum(corpus.lengths[order]), HELD_OUT_TOKENS))
    n = min(max(min(int(HELD_OUT_SHARE * len(order)), n_affordable), LEAST_HELD_OUT), len(order) // 4)
    return (np.sort(order[:n]), np.sort(order[n:])) if n else (np.sort(order), np.sort(order))


@dataclass(frozen=True)
class _Stage:
    """One training stage of a new head."""

    name: str
    phase: str
    """Name of the stage in progress reports."""
    steps: int
    """Maximum number of steps."""
    setting: str
    """Name of the setting with the learning rate."""
    learning_rate: float
    warmup_ratio: float = 0.0

    def train(
        self,
        context: TrainingContext,
        corpus: "Corpus",
        rows: IntArray,
        parameters: Sequence[nn.Parameter],
        randomness: StreamName,
        watch: KeepBest,
    ) -> int:
        """Train only `parameters` of the model.

        Args:
            context: Context with the model.
            corpus: Text to train on.
            rows: int [B]: numbers of the blocks to train on.
            parameters: Parameters to train; all others are unchanged.
            randomness: Random stream.
            watch: Measures the held-out loss. It may stop the stage and restore the best weights.

        Returns:
            The number of steps.
        """
        model, size = context.model, context.adapt.batch_size
        batches = DrawnMasks(corpus, RandomMasking()).start(replace(context, masking=MASKING), randomness)
        schedule = OptimiserSettings(
            epochs=-(-self.steps // -(-len(rows) // size)),
            batch_size=size,
            learning_rate=self.learning_rate,
            warmup_ratio=self.warmup_ratio,
        )
        trained = {id(parameter) for parameter in parameters}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        try:
            return fit(
                model,
                corpus.lengths[rows],
                lambda some: partial(masked_lm_loss, model, batches(rows[some])),
                schedule,
                context.runtime,
                randomness,
                lower=self.setting,
                parameters=parameters,
                max_steps=self.steps,
                progress=context.reporter.steps(self.phase),
                watch=watch,
            ).steps
        finally:
            model.requires_grad_(True)


def _digest(context: TrainingContext, settings: ModelSettings, corpus: "Corpus", seed: int) -> str:
    """Return the digest of everything that determines a trained head.

    Args:
        context: Context with the model before the training.
        settings: Model settings.
        corpus: Text to train on.
        seed: Seed of the run.

    Returns:
        The first 20 hex digits of a SHA-256.
    """
    runtime, encoder = context.runtime, state_digest(context.model.base_model.state_dict())
    facts = (VERSION, seed, corpus.digest, context.adapt.batch_size, runtime.precision, runtime.device.type, encoder)
    return hashlib.sha256(" ".join([settings.model_dump_json(), *map(str, facts)]).encode()).hexdigest()[:20]
