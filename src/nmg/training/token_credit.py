"""Gradient credit: how much a training step on a masked token's loss would lower the validation loss.

A step of Adam on the loss ℓ of one token moves the weights by −η P ∇ℓ, where P scales each weight by 1 / √v̂. To first
order, the validation loss L falls by η ∇L · P ∇ℓ, which is the derivative of ℓ along the direction d = P ∇L. One
direction thus gives the credit of all tokens, by two forward passes: (ℓ(θ + ε d) − ℓ(θ − ε d)) / 2 ε.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from nmg.base.types import IGNORED_LABEL, CorruptedBlocks
from nmg.training.adapt import Columns
from nmg.training.context import TrainingContext
from nmg.training.fast.embeddings import EmbeddingSubset
from nmg.training.fit import Training
from nmg.training.lm import masked_logits
from nmg.training.memory import in_passes
from nmg.training.runtime import send

DAMPING = 0.05
"""Fraction of the mean of √v̂ that is added to it. Without it, weights that were hardly trained would dominate, such as
the biases of keys, whose gradient is 0 up to rounding."""
STEP = 1e-3
"""Length of the step of the central difference, relative to the length of all weights."""


class LastMoments:
    """Remembers the second moments of AdamW after the last step of a training (an `Observer` of `fit`)."""

    def __init__(self) -> None:
        self.moments: dict[str, Tensor] = {}
        """Parameter name → √v̂. With `adapt.vocabulary corpus`, tables of word pieces have only the pieces `ids`."""
        self.ids: Tensor | None = None
        """int64 [N]: the pieces that were trained, ascending; None for the whole vocabulary."""

    def begin(self, training: Training) -> None:
        """Do nothing: there are no moments before the first step."""

    def after_step(self, training: Training) -> None:
        """Copy the moments after the last step."""
        if training.is_over:
            self.moments = training.second_moments()
            subsets = (module for module in training.model.modules() if isinstance(module, EmbeddingSubset))
            self.ids = next((subset.ids for subset in subsets), None)

    @property
    def mean(self) -> float:
        """Mean of √v̂ over all weights."""
        total = sum(float(root.sum()) for root in self.moments.values())
        return total / max(sum(root.numel() for root in self.moments.values()), 1)

    def scale(self, gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the direction d = P ∇L, float32, for each parameter that has a gradient and moments.

        Tables of word pieces have the rows that were trained.

        `gradient` maps parameter names to the gradient of the validation loss, in the shape of the whole parameter.
        """
        found: dict[str, Tensor] = {}
        added = DAMPING * self.mean
        for name, root in self.moments.items():
            if name in gradient:
                slope = gradient[name]
                if self.ids is not None and slope.shape != root.shape:
                    slope = slope[self.ids]
                found[name] = slope / (root + added)
        return found


@torch.no_grad()
def token_credit(
    context: TrainingContext, corrupted: CorruptedBlocks, direction: Mapping[str, Tensor], columns: Columns
) -> Tensor:
    """Return the credit of each masked token, by a central difference of its loss along `direction`.

    Args:
        context: Context with the LM at the weights to differentiate at; they are restored to the bit. Its vocabulary
            is the trained one (see `adapt.trained_vocabulary`).
        corrupted: Masked blocks.
        direction: Parameter name → direction (see `LastMoments.scale`).
        columns: Maps label ids to columns of the logits.

    Returns:
        float64 [M], in row-major order of the masked positions, in nats of validation loss per unit of the learning
        rate. Positive credit: training on the token lowers the validation loss.
    """
    parameters = dict(context.model.named_parameters())
    length = _length(direction.values())
    if length == 0:
        return torch.zeros(int((corrupted.labels != IGNORED_LABEL).sum()), dtype=torch.float64)
    size = STEP * _length([parameters[name] for name in direction]) / length
    sides = []
    for sign in (1, -1):
        with moved(context.model, direction, sign * size):
            sides.append(_token_losses(context, corrupted, columns))
    return (sides[0] - sides[1]) / (2 * size)


@contextmanager
def moved(model: PreTrainedModel, direction: Mapping[str, Tensor], size: float) -> Iterator[None]:
    """Move the weights of `model` by `size` · `direction` within the context, and restore them to the bit."""
    parameters = dict(model.named_parameters())
    before = {name: parameters[name].detach().clone() for name in direction}
    try:
        for name, way in direction.items():
            parameters[name].data.add_(way, alpha=size)
        yield
    finally:
        for name, value in before.items():
            parameters[name].data.copy_(value)


def _token_losses(context: TrainingContext, corrupted: CorruptedBlocks, columns: Columns) -> Tensor:
    """Return the loss of each masked token in nats, float64 [M], without dropout and in fp32."""
    model, lengths = context.model.eval(), corrupted.is_token.sum(dim=1)
    if (output := model.get_output_embeddings()) is not None:
        output.train()  # without dropout; a restricted output computes few logits

    def read(rows: slice) -> Tensor:
        longest = int(lengths[rows].max())
        ids, is_token, labels = (
            tensor[rows, :longest] for tensor in (corrupted.input_ids, corrupted.is_token, corrupted.labels)
        )
        is_masked = labels != IGNORED_LABEL
        logits = masked_logits(model, ids, is_token, is_masked)
        found = cross_entropy(logits.float(), send(columns(labels[is_masked]), model.device), reduction="none")
        return found.cpu().double()

    parts = in_passes(len(corrupted.labels), context.runtime.evaluation_batch_size, read)
    return torch.cat([losses for _, losses in parts])


def _length(tensors: Iterable[Tensor]) -> float:
    """Return the Euclidean length of all elements together."""
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))
