"""Adapts a masked LM: further pre-training with given masks."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from nmg.base.seeding import StreamName
from nmg.base.state import State
from nmg.base.trial import TrainingStats
from nmg.base.types import IGNORED_LABEL, IntArray
from nmg.training.accumulation import BatchLoss
from nmg.training.batches import batches_per_epoch
from nmg.training.context import TrainingContext
from nmg.training.dropout import dropout_probability
from nmg.training.fast.vocabulary_subset import restrict_vocabulary
from nmg.training.fit import Observer, fit
from nmg.training.keep_best import KeepBest
from nmg.training.lm import masked_lm_loss
from nmg.training.lora import low_rank
from nmg.training.masks import Batches, Masks

Columns: TypeAlias = Callable[[Tensor], Tensor]
"""Maps label ids to columns of the logits. Negative labels, which have no loss, are left unchanged."""


def adapt(
    context: TrainingContext,
    masks: Masks,
    randomness: StreamName,
    *,
    watch: KeepBest | None = None,
    observer: Observer | None = None,
) -> TrainingStats:
    """Train `context.model` in place on its masked-LM loss, for `context.adapt_steps` steps or `adapt.epochs` epochs.

    With `adapt.lora.rank`, train low-rank matrices and merge them into the model at the end.

    Args:
        context: Context with the model and the settings.
        masks: Text and masks to adapt on.
        randomness: Random stream.
        watch: Measures a loss during the training. It may stop the training and restore the best weights at the end.
        observer: Follows the training; may restore it before the first step.

    Returns:
        The result of the training.

    Raises:
        Diverged: If a loss or the final weights are not finite.
        UserError: If `adapt.vocabulary` is "corpus" and the model cannot be restricted, or if LoRA cannot adapt the
            model.
    """
    began = time.perf_counter()
    with trained_vocabulary(context, masks) as (of_text, columns):
        result = _adapt(of_text, masks, randomness, watch, observer, columns)
    return replace(result, seconds=time.perf_counter() - began)


@contextmanager
def trained_vocabulary(context: TrainingContext, masks: Masks) -> Iterator[tuple[TrainingContext, Columns]]:
    """Restrict the model to the pieces of the text within the context, if `adapt.vocabulary` is "corpus".

    Args:
        context: Context with the model and the settings.
        masks: The text and its masks.

    Yields:
        The context to train with, and the function from label ids to columns of the logits.

    Raises:
        UserError: The model cannot be restricted.
    """
    if context.adapt.vocabulary == "all":
        yield context, lambda labels: labels
        return
    ids = torch.cat([masks.token_ids, torch.tensor([context.vocabulary.mask_id])])
    with restrict_vocabulary(context.model, ids) as words:
        yield replace(context, vocabulary=context.vocabulary.within(ids)), words.rows


def _adapt(
    context: TrainingContext,
    masks: Masks,
    randomness: StreamName,
    watch: KeepBest | None,
    observer: Observer | None,
    columns: Columns,
) -> TrainingStats:
    """Adapt the model with the vocabulary that it has now.

    Args:
        context: Context with the model and the settings.
        masks: Text and masks to adapt on.
        randomness: Random stream.
        watch: Measures a loss during the training.
        observer: Follows the training.
        columns: Maps label ids to columns of the logits.

    Returns:
        The result of the training, with the numbers of tokens.
    """
    settings, steps = context.adapt, context.adapt_steps
    steps_an_epoch = batches_per_epoch(settings, masks.lengths[masks.rows_of(0)])
    if steps is not None:
        settings = settings.model_copy(update={"epochs": -(-steps // steps_an_epoch)})
    losses = _Losses(context, masks.start(context, randomness, steps or settings.epochs * steps_an_epoch), columns)
    with (
        dropout_probability(context.model, settings.dropout),
        low_rank(context.model, settings.lora, randomness / "lora", context.trained_fully) as trained,
    ):
        result = fit(
            context.model,
            masks.lengths,
            losses,
            settings,
            context.runtime,
            randomness / "adapt",
            rows_of=masks.rows_of,
            n_batches=steps_an_epoch if settings.join_documents else None,
            lower="adapt.learning_rate",
            parameters=trained,
            max_steps=steps,
            progress=context.reporter.steps(f"adapting · {masks.name}"),
            watch=watch,
            observer=observer,
            parts={"masks": losses},
        )
    return replace(result, tokens=losses.tokens, masked_tokens=losses.masked_tokens)


class _Losses:
    """Builds the masked-LM loss function of each batch and counts the tokens and masked tokens of all batches.

    Args:
        context: Context with the model.
        batches: Function from row numbers to corrupted blocks.
        columns: Maps label ids to columns of the logits.
    """

    def __init__(self, context: TrainingContext, batches: Batches, columns: Columns) -> None:
        self._context, self._batches, self._columns = context, batches, columns
        self.masked_tokens, self.tokens = 0, 0

    def __call__(self, rows: IntArray) -> BatchLoss:
        """Return the loss function of the batch of `rows`, int [B], and count its tokens."""
        corrupted = self._batches(rows)
        self.masked_tokens += int((corrupted.labels != IGNORED_LABEL).sum())
        self.tokens += int(corrupted.is_token.sum())
        corrupted = replace(corrupted, labels=self._columns(corrupted.labels))
        return partial(masked_lm_loss, self._context.model, corrupted, is_packed=self._context.runtime.packing)

    def state(self) -> State:
        """Return the state of the batches and the numbers of tokens."""
        batches, counts = self._batches.state(), {"masked_tokens": self.masked_tokens, "tokens": self.tokens}
        return State(batches.tensors, {"batches": batches.facts, **counts})

    def restore(self, state: State) -> None:
        """Restore the token counts and the batches from `state`.

        Training then continues after the last batch in `state`.
        """
        self.masked_tokens, self.tokens = (int(state.facts[name]) for name in ("masked_tokens", "tokens"))
        self._batches.restore(State(state.tensors, state.facts["batches"]))
