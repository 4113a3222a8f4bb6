"""Reads the last hidden states of encoded texts, and their embeddings, without dropout and without gradients."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from nmg.base.types import IntArray
from nmg.tasks.rows import TaskFeatures
from nmg.training.context import TrainingContext
from nmg.training.fast.attention_mask import needed_inputs
from nmg.training.memory import in_passes
from nmg.training.runtime import send

Reduction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Function of (last hidden states, float64 [B, T, H] on the CPU; is_token, bool [B, T]) to values [B, ...]."""


def read_states(
    context: TrainingContext, features: TaskFeatures, rows: IntArray, reduce: Reduction
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read rows in batches of similar length, longest first.

    Args:
        context: Context with the LM.
        features: Encoded texts.
        rows: int [N]: rows of `features` to read.
        reduce: Turns the states of a batch into the values to yield.

    Yields:
        Indices into `rows`, int64 [B], and what `reduce` returns for them.
    """
    model = context.model
    model.eval()
    order = np.argsort(-features.lengths[rows], kind="stable")

    def read(part: slice) -> Tensor:
        """Return the values of some rows."""
        with torch.no_grad():
            return batch_states(context, features, rows[order[part]], reduce)

    for part, values in in_passes(len(order), context.runtime.evaluation_batch_size, read):
        yield torch.from_numpy(order[part]), values


def batch_states(context: TrainingContext, features: TaskFeatures, rows: IntArray, reduce: Reduction) -> Tensor:
    """Read one batch, in the mode of the model. A gradient reaches the encoder.

    Args:
        context: Context with the LM.
        features: Encoded texts.
        rows: int [B]: rows of `features`.
        reduce: Turns the states of the batch into the result.

    Returns:
        What `reduce` returns.
    """
    model, inputs = context.model, features.inputs(rows)
    needed = needed_inputs(model.base_model, inputs)
    with context.runtime.autocast():
        found = model.base_model(**{name: send(tensor, model.device) for name, tensor in needed.items()})[0]
    states: Tensor = found.cpu().double()  # not every device supports float64
    return reduce(states, inputs["attention_mask"].bool())


def embed(context: TrainingContext, features: TaskFeatures) -> Tensor:
    """Return the embeddings of all rows by `context.pooling`.

    Args:
        context: Context with the adapted LM.
        features: Encoded texts.

    Returns:
        float64 [F, D] on the CPU, in row order.
    """
    found: Tensor | None = None
    for places, pooled in read_states(context, features, np.arange(len(features)), context.pooling):
        if found is None:
            found = torch.zeros(len(features), pooled.shape[1], dtype=pooled.dtype)
        found[places] = pooled
    assert found is not None, "there is at least one row"
    return found
