"""Restricts the vocabulary of a masked LM to the word pieces that its text can contain.

In a small model, the embedding table (input embeddings, tied to the output) accounts for most of a training step.
Matrix products, the softmax, the gradient and the optimiser all process 30 522 rows, of which a domain's text uses a
fifth. With the other rows removed, the loss is the cross-entropy among the pieces of the text. It differs slightly from
the loss among all pieces: a pre-trained model gives the other pieces little probability, and removed rows get no
gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nmg.base.errors import UserError
from nmg.training.fast.embeddings import EmbeddingSubset


class _FewOutputs(nn.Module):
    """Output layer of a masked LM for a subset of the pieces, tied to the weights of their input embeddings."""

    def __init__(self, whole: nn.Linear, inputs: EmbeddingSubset) -> None:
        super().__init__()
        self._ids, self._vocabulary = inputs.ids, whole.out_features
        self.weight = inputs.weight
        self.bias = None if whole.bias is None else nn.Parameter(whole.bias.detach()[inputs.ids])

    def forward(self, states: Tensor) -> Tensor:
        """Compute logits of the kept pieces [..., N] in training.

        In evaluation, return [..., V] with the lowest float at all other pieces.
        """
        logits = F.linear(states, self.weight, self.bias)
        if self.training:
            return logits
        all_logits = logits.new_full((*logits.shape[:-1], self._vocabulary), torch.finfo(logits.dtype).min)
        all_logits[..., self._ids] = logits
        return all_logits


@contextmanager
def restrict_vocabulary(model: PreTrainedModel, ids: Tensor) -> Iterator[EmbeddingSubset]:
    """Make `model` read and predict only the pieces `ids` within the context; on exit, restore the full vocabulary.

    In training, logits are in the order of `EmbeddingSubset.ids`.

    Args:
        model: The masked LM to restrict.
        ids: Int64 tensor of ids to keep, of any shape.

    Yields:
        The restricted input embeddings.

    Raises:
        UserError: If the output of the model is not tied to plain word embeddings.
    """
    whole, output = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = type(whole) is nn.Embedding and type(output) is nn.Linear and output.weight is whole.weight
    if not is_tied or whole.max_norm is not None or whole.scale_grad_by_freq:
        raise UserError(
            f"adapt.vocabulary corpus needs a masked LM whose output is tied to its word embeddings, but the output of "
            f"{type(model).__name__} is not: set adapt.vocabulary all"
        )
    few = EmbeddingSubset(whole, ids.flatten().to(whole.weight.device)).train(whole.training)
    few_outputs = _FewOutputs(output, few).train(output.training)
    path = next(name for name, module in model.named_modules() if module is output)
    model.set_input_embeddings(few)
    model.set_submodule(path, few_outputs)
    try:
        yield few
    finally:
        model.set_input_embeddings(whole)
        model.set_submodule(path, output)
        with torch.no_grad():
            whole.weight[few.ids] = few.weight.to(whole.weight.dtype)
            if few_outputs.bias is not None:
                output.bias[few.ids] = few_outputs.bias.to(output.bias.dtype)
