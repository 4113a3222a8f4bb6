"""Adapt the word table of a masked LM over the pieces that its text can contain.

In a small model the table (input embeddings, tied to the output) is most of a step: its products, the softmax over the
vocabulary, its gradient and the optimiser all go through 30 522 rows, of which a domain's text uses a fifth. Leaving
the others out makes the loss the cross-entropy among pieces of the text. That differs slightly from the loss among all
pieces: a pre-trained model gives the others little probability, and a row that is left out is not pushed away.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nmg.errors import UserError
from nmg.fast.embeddings import FewEmbeddings


class _FewOutputs(nn.Module):
    """The output of a masked LM for some pieces; its weights are those of their input embeddings."""

    def __init__(self, whole: nn.Linear, inputs: FewEmbeddings) -> None:
        super().__init__()
        self._ids, self._vocabulary = inputs.ids, whole.out_features
        self.weight = inputs.weight
        self.bias = None if whole.bias is None else nn.Parameter(whole.bias.detach()[inputs.ids])

    def forward(self, states: Tensor) -> Tensor:
        """Logits [..., pieces] in training; else [..., V], with the lowest number at all other pieces."""
        logits = F.linear(states, self.weight, self.bias)
        if self.training:
            return logits
        all_logits = logits.new_full((*logits.shape[:-1], self._vocabulary), torch.finfo(logits.dtype).min)
        all_logits[..., self._ids] = logits
        return all_logits


@contextmanager
def only_words(model: PreTrainedModel, ids: Tensor) -> Iterator[FewEmbeddings]:
    """Inside of it, `model` reads and predicts the pieces `ids` (int64, any shape) alone; behind it, all of them.

    In training its logits are those of `FewEmbeddings.ids`, in this order. Raises UserError where the model's output is
    not tied to plain embeddings.
    """
    whole, output = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = type(whole) is nn.Embedding and type(output) is nn.Linear and output.weight is whole.weight
    if not is_tied or whole.max_norm is not None or whole.scale_grad_by_freq:
        raise UserError(
            f"adapt.vocabulary corpus needs a masked LM whose output is tied to its word embeddings, and "
            f"{type(model).__name__} has none; use adapt.vocabulary all"
        )
    few = FewEmbeddings(whole, ids.flatten().to(whole.weight.device)).train(whole.training)
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
