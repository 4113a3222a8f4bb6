"""Adapts a masked LM: further pre-training with given masks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nmg.base.seeding import StreamName
from nmg.base.types import IGNORED_LABEL, IntArray
from nmg.training.accumulation import BatchLoss
from nmg.training.context import TrainingContext
from nmg.training.fast.vocabulary_subset import restrict_vocabulary
from nmg.training.fit import FitResult, fit
from nmg.training.lm import masked_lm_loss
from nmg.training.masks import Masks


@dataclass(frozen=True)
class AdaptResult:
    """Result of an adaptation."""

    fit: FitResult
    """Steps, loss and seconds of the training."""
    masked_tokens: int
    """Number of masked positions trained on, over all epochs."""
    tokens: int
    """Number of tokens read, special tokens included, over all epochs."""


def adapt(context: TrainingContext, masks: Masks, randomness: StreamName, steps: int | None = None) -> AdaptResult:
    """Train `context.model` in place on its masked-LM loss.

    Args:
        context: Context with the model and the settings.
        masks: Text and masks to adapt on.
        randomness: Random stream.
        steps: Number of steps, over which the learning rate falls to 0; None for `adapt.epochs` epochs.

    Returns:
        The result of the training and the number of tokens.

    Raises:
        Diverged: If a loss or the final weights are not finite.
        UserError: If `adapt.vocabulary` is "corpus" and the model cannot be restricted.
    """
    if context.adapt.vocabulary == "all":
        return _adapt(context, masks, randomness, steps)
    ids = torch.cat([masks.token_ids, torch.tensor([context.vocabulary.mask_id])])
    with restrict_vocabulary(context.model, ids) as words:
        return _adapt(replace(context, vocabulary=context.vocabulary.within(ids)), masks, randomness, steps, words.rows)


def _adapt(
    context: TrainingContext,
    masks: Masks,
    randomness: StreamName,
    steps: int | None,
    columns: Callable[[Tensor], Tensor] = lambda labels: labels,
) -> AdaptResult:
    """Adapt the model. `columns` maps label ids to logit columns when the vocabulary is restricted."""
    settings, masked_tokens, tokens = context.adapt, 0, 0
    steps_an_epoch = -(-len(masks.lengths) // settings.batch_size)
    if steps is not None:
        settings = settings.model_copy(update={"epochs": -(-steps // steps_an_epoch)})
    batches = masks.start(context, randomness, steps or settings.epochs * steps_an_epoch)

    def loss_of(rows: IntArray) -> BatchLoss:
        """Return the loss function of a batch and count its tokens."""
        nonlocal masked_tokens, tokens
        corrupted = batches(rows)
        n_masked = int((corrupted.labels != IGNORED_LABEL).sum())
        masked_tokens += n_masked
        tokens += int(corrupted.is_token.sum())
        corrupted = replace(corrupted, labels=columns(corrupted.labels))
        return partial(masked_lm_loss, context.model, corrupted, is_packed=context.runtime.packing)

    result = fit(
        context.model,
        masks.lengths,
        loss_of,
        settings,
        context.runtime,
        randomness / "adapt",
        lower="adapt.learning_rate",
        max_steps=steps,
        progress=context.reporter.steps(f"adapting · {masks.name}"),
    )
    return AdaptResult(result, masked_tokens, tokens)
