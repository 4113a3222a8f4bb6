"""Preflight check: passes a few rows through every model that a command will train, before any long work.

A few real rows pass through the language model and the task model: scoring, then one training step with a learning rate
of 0. A model that cannot be used therefore fails within seconds and with one sentence, not in every trial after its
adaptation. The check has no side effects: it trains copies and restores all random generators.
"""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nmg.base.errors import Diverged, UserError
from nmg.base.seeding import StreamName
from nmg.base.training_settings import LoraSettings
from nmg.base.types import Example
from nmg.data.corpus import Corpus
from nmg.data.cutting import cut_texts
from nmg.data.framing import SpecialTokens
from nmg.masking.rules import RandomMasking
from nmg.tasks.base import Task
from nmg.tasks.registry import task_kind
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.data_parallel import SINGLE
from nmg.training.finetune import evaluate, finetune, task_model
from nmg.training.lm import PretrainedLM, masked_logits
from nmg.training.lm_quality import held_out_loss
from nmg.training.masks import DrawnMasks
from nmg.training.states import embed
from nmg.trials.trial import Encoded

RANDOMNESS = StreamName(0) / "preflight"
"""Random stream of the check."""
FEW_TEXTS, FEW_ROWS = 64, 4
"""Number of texts read for the language model, and number of rows in its batch."""
CHARACTERS_A_TOKEN = 8
"""Upper estimate of characters per token. A text with this many characters per token fills a row."""
LONGEST_REASON = 300
"""Maximum number of characters quoted from a library's error message."""
SAME_LOGITS = 1e-3
"""Relative tolerance for comparing logits computed in two ways."""


@dataclass(frozen=True)
class TaskSample:
    """A task and the data that a command fine-tunes a model on."""

    name: str
    """Kind of the task."""
    task: Task
    train: Sequence[Example]
    """Examples to fine-tune on."""
    held_out: Sequence[Example]
    """Examples to score."""


def preflight(
    lm: PretrainedLM,
    context: TrainingContext,
    texts: Collection[str],
    tasks: Sequence[TaskSample] = (),
    *,
    may_change_precision: bool = True,
) -> TrainingContext:
    """Run a few rows of `texts` and of each task through copies of the model.

    Args:
        lm: The model as loaded.
        context: Context of the inner loops. Its model is left unchanged.
        texts: Texts to adapt on, at least one of them with a token. Only a few are read.
        tasks: Tasks the model will be fine-tuned on; empty if it is only adapted.
        may_change_precision: Whether fp32 may replace bf16 or fp16; False if the user chose the precision.

    Returns:
        The context, changed to fp32 (with a message) if the model trains only in fp32.

    Raises:
        UserError: The model, its tokenizer or a setting cannot be used; the message says which, and what to do.
    """
    check_tokenizer(lm)
    _check_architecture(lm)
    change = may_change_precision
    with _streams_kept():
        context = _working(lm, context, "be adapted", "adapt.block_size", partial(_try_lm, lm=lm, texts=texts), change)
        for sample in tasks:
            what = f"do the task '{sample.name}'"
            context = _working(lm, context, what, "finetune.max_length", partial(_try_task, sample=sample), change)
    return context


def check_tokenizer(lm: PretrainedLM) -> None:
    """Raise UserError if the tokenizer produces ids that the model does not embed."""
    table = lm.model.get_input_embeddings()
    embedded = table.num_embeddings if isinstance(table, nn.Embedding) else None
    if embedded is not None and lm.vocabulary_size > embedded:
        raise UserError(
            f"model.name: the tokenizer of '{lm.name}' has {lm.vocabulary_size} tokens, but the model embeds only "
            f"{embedded}. Call model.resize_token_embeddings(len(tokenizer)) in transformers and save both."
        )


def _check_architecture(lm: PretrainedLM) -> None:
    """Raise UserError for an architecture with limits that the error messages of the model do not explain."""
    config = lm.model.config
    if config.model_type == "nystromformer" and config.num_landmarks != config.segment_means_seq_len:
        raise UserError(
            f"model.name: '{lm.name}' takes only rows of exactly {config.segment_means_seq_len} tokens, because the "
            "num_landmarks of its config.json differ from segment_means_seq_len; choose a model where they are equal"
        )
    if getattr(config, "languages", None) and getattr(config, "default_language", None) is None:
        raise UserError(
            f"model.name: '{lm.name}' has adapters for {len(config.languages)} languages; write the one to use into "
            f"its config.json as default_language, e.g. {config.languages[0]}"
        )


def _working(
    lm: PretrainedLM,
    context: TrainingContext,
    what: str,
    length: str,
    attempt: Callable[[TrainingContext], None],
    may_change: bool,
) -> TrainingContext:
    """Return a context in which the attempt succeeds: `context`, or a copy in fp32.

    Args:
        lm: The model, for messages.
        context: Context with the requested settings.
        what: Description of the attempt, for messages.
        length: Name of the setting that limits the length of rows.
        attempt: Raises an exception if the settings of a context do not work.
        may_change: Whether fp32 may replace bf16 or fp16.

    Returns:
        The context to use.

    Raises:
        UserError: Neither context works; the message names the setting that causes the failure, if there is one.
    """
    failed = _failure(attempt, context)
    if failed is None:
        return context
    if isinstance(failed, _MissingRow):
        raise UserError(_missing_row(lm, failed, length)) from failed
    if isinstance(failed, UserError) and not isinstance(failed, Diverged):
        raise failed
    reason = _reason(failed)
    if context.adapt.vocabulary == "corpus":
        whole = replace(context, adapt=context.adapt.model_copy(update={"vocabulary": "all"}))
        if _failure(attempt, whole) is None:
            raise UserError(
                f"adapt.vocabulary corpus: '{lm.name}' (type {lm.model.config.model_type}) computes its logits "
                f"otherwise than from its word embeddings alone ({reason}); use adapt.vocabulary all"
            ) from failed
    if context.adapt.lora.rank:
        whole = replace(context, adapt=context.adapt.model_copy(update={"lora": LoraSettings()}))
        if _failure(attempt, whole) is None:
            raise UserError(
                f"adapt.lora.rank: '{lm.name}' cannot {what} with LoRA ({reason}); use adapt.lora.rank 0"
            ) from failed
    runtime = context.runtime
    if runtime.packing and _failure(attempt, replace(context, runtime=replace(runtime, packing=False))) is None:
        raise UserError(
            f"runtime.packing: '{lm.name}' cannot {what} on packed rows ({reason}); turn it off"
        ) from failed
    if runtime.precision != "fp32":
        plain = replace(context, runtime=replace(runtime, precision="fp32"))
        if _failure(attempt, plain) is None:
            if not may_change:
                raise UserError(
                    f"runtime.precision {runtime.precision}: '{lm.name}' cannot {what} in it ({reason}); use fp32"
                ) from failed
            context.reporter.notify(
                f"runtime.precision: '{lm.name}' cannot {what} in {runtime.precision} ({reason}): fp32 is used"
            )
            return plain
    raise UserError(f"model.name: '{lm.name}' cannot {what}: {reason} (NMG_DEBUG=1 shows where)") from failed


def _failure(attempt: Callable[[TrainingContext], None], context: TrainingContext) -> Exception | None:
    """Return the exception that the attempt raises, or None."""
    small = replace(context.silent(), runtime=replace(context.runtime, sharing=SINGLE))
    try:
        attempt(small)
    except Exception as error:
        return error
    return None


def _try_lm(context: TrainingContext, lm: PretrainedLM, texts: Collection[str]) -> None:
    """Score and train a copy of the model on a few blocks."""
    corpus = _few_blocks(lm, context, texts)
    if not len(corpus):
        return  # the command itself reports an empty corpus
    model = deepcopy(context.model)
    settings = context.adapt.model_copy(update={"batch_size": len(corpus), "learning_rate": 0.0})
    context = replace(context, model=model, adapt=settings, adapt_steps=1)
    with _checked_tables(model):
        _check_logits(context, corpus)
        held_out_loss(context, corpus, np.arange(len(corpus)), RANDOMNESS)
        adapt(context, DrawnMasks(corpus, RandomMasking()), RANDOMNESS)


def _few_blocks(lm: PretrainedLM, context: TrainingContext, texts: Collection[str]) -> Corpus:
    """Return the longest and the shortest blocks of a few texts; empty if the texts have no token."""
    some = list(islice((text for text in texts if text.strip()), FEW_TEXTS))
    padding = SpecialTokens.of(lm.tokenizer).padding
    whole = Corpus("preflight", cut_texts(some, lm.tokenizer, context.adapt.block_size), padding)
    order = np.argsort(-whole.lengths, kind="stable")
    chosen = np.unique(np.concatenate([order[: FEW_ROWS // 2], order[-FEW_ROWS // 2 :]]))
    blocks = [whole.text(int(block)) for block in chosen]
    return Corpus("preflight", cut_texts(blocks, lm.tokenizer, context.adapt.block_size), padding)


def _check_logits(context: TrainingContext, corpus: Corpus) -> None:
    """Raise UserError if the LM head gives other logits for the masked positions alone than for the whole input."""
    blocks, model = corpus.blocks(np.arange(len(corpus))), context.model
    is_masked = blocks.is_maskable & (torch.arange(blocks.input_ids.shape[1]) % 3 == 1)
    inputs = {"input_ids": blocks.input_ids.to(model.device), "attention_mask": blocks.is_token.long().to(model.device)}
    model.eval()
    with torch.inference_mode():
        whole = model(**inputs).logits[is_masked.to(model.device)]
        few = masked_logits(model, blocks.input_ids, blocks.is_token, is_masked)
    if whole.shape != few.shape or not _are_close(whole, few):
        raise UserError(
            f"model.name: a model of type '{model.config.model_type}' cannot be adapted: its head mixes positions, so "
            "it cannot run on masked positions alone; choose another model"
        )


def _are_close(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors of logits are equal up to the relative tolerance `SAME_LOGITS`."""
    difference, size = (first - second).abs(), first.abs()
    return not difference.numel() or bool(difference.max() <= SAME_LOGITS * (1 + size.max()))


def _try_task(context: TrainingContext, sample: TaskSample) -> None:
    """Score and train a new task model on a few rows."""
    task, room = sample.task, CHARACTERS_A_TOKEN * context.finetune.max_length
    train, held_out = (Encoded.of(task, _few(some, room)) for some in (sample.train, sample.held_out))
    if not task_kind(sample.name).is_trained:
        with _checked_tables(context.model):
            task.evaluate({"embedding": embed(context, train.features)}, train.features, train.examples)
        return
    model = task_model(task, context.model, RANDOMNESS / "head")
    with _checked_tables(model):
        for encoded in (train, held_out):
            if len(encoded.features):
                evaluate(model, task, encoded.features, encoded.examples, context.runtime)
        rows = np.argsort(-train.features.lengths, kind="stable")[:FEW_ROWS]
        settings = context.finetune.model_copy(update={"epochs": 1, "batch_size": len(rows), "learning_rate": 0.0})
        finetune(model, train.features, rows, settings, context.runtime, RANDOMNESS / "finetune", max_steps=1)


def _few(examples: Sequence[Example], room: int) -> Sequence[Example]:
    """Return the examples with the shortest passage and with the two longest passages of at most `room` characters."""
    order = sorted(examples, key=lambda example: len(example.passage))
    fitting = [example for example in order if len(example.passage) <= room] or order[:1]
    return [*order[:1], *(example for example in fitting[-2:] if example is not order[0])]


class _MissingRow(Exception):  # noqa: N818 it says what is missing
    """Raised for an id that is not a row of an embedding table."""

    def __init__(self, table: str, rows: int, asked: int) -> None:
        super().__init__(f"the table {table} has {rows} rows, and row {asked} is asked for")
        self.table, self.rows, self.asked = table, rows, asked


@contextmanager
def _checked_tables(model: PreTrainedModel) -> Iterator[None]:
    """Make the embeddings of the model raise _MissingRow for invalid ids until the context ends.

    Without it, an invalid id on a GPU would end the process.
    """

    def check(name: str, table: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Raise _MissingRow if the ids exceed the rows of a table."""
        if inputs and isinstance(inputs[0], Tensor) and isinstance(table, nn.Embedding) and inputs[0].numel():
            lowest, highest = (int(end) for end in inputs[0].aminmax())
            if highest >= table.num_embeddings or lowest < 0:
                raise _MissingRow(name, table.num_embeddings, highest if lowest >= 0 else lowest)

    hooks = [
        module.register_forward_pre_hook(partial(check, name))
        for name, module in model.named_modules()
        if type(module) is nn.Embedding
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _missing_row(lm: PretrainedLM, missing: _MissingRow, length: str) -> str:
    """Return the error message for a missing row of an embedding."""
    kind, name = missing.table.lower(), f"model.name: '{lm.name}'"
    if "position" in kind:
        return (
            f"{length}: '{lm.name}' has {missing.rows} positions, and a row needs {missing.asked + 1}; lower {length}"
        )
    if "type" in kind:
        return (
            f"{name} has {missing.rows} token types, but its tokenizer gives type {missing.asked}: remove "
            "token_type_ids from model_input_names in its tokenizer_config.json"
        )
    return f"{name} cannot read its tokenizer's rows: {missing}; choose a tokenizer that belongs to the model"


def _reason(error: Exception) -> str:
    """Summarise an exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, Diverged):
        return "its loss on real rows is not finite"
    return f"{type(error).__name__}: {lines[0]}"[:LONGEST_REASON] if lines else type(error).__name__


@contextmanager
def _streams_kept() -> Iterator[None]:
    """Restore the random generators of torch, NumPy and Python on exit, because model code draws from all three."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with RANDOMNESS.torch():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
