"""Train only the rows of the word embeddings that occur.

A few hundred labelled texts hold a few thousand of a vocabulary's 30 522 word pieces. The rows of all others get no
gradient, so AdamW without weight decay leaves them as they are, and yet clears, measures, averages and steps them at
every step: with MiniLM half of the optimiser's work. Training a table of the rows that occur gives the same weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel


class FewEmbeddings(nn.Embedding):
    """Some rows of an embedding, under their old ids."""

    def __init__(self, whole: nn.Embedding, ids: Tensor) -> None:
        padding = whole.padding_idx
        if padding is not None:
            ids = torch.cat([ids, ids.new_tensor([padding])])
        ids = torch.unique(ids)
        row_of = torch.full((whole.num_embeddings,), -1, device=ids.device)
        row_of[ids] = torch.arange(len(ids), device=ids.device)
        super().__init__(
            len(ids),
            whole.embedding_dim,
            None if padding is None else int(row_of[padding]),
            _weight=whole.weight.detach()[ids],
        )
        self.ids, self.row_of, self._rows_on_cpu = ids, row_of, row_of.cpu()

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(self.row_of[input], self.weight, self.padding_idx)

    def rows(self, labels: Tensor) -> Tensor:
        """Ids, on the CPU, as rows of this table; what is negative, as a label without loss, stays."""
        return torch.where(labels < 0, labels, self._rows_on_cpu[labels.clamp(min=0)])


_TYPES_ARE_WORDS = {"xlm", "flaubert"}
"""types of models that look token types up among the word embeddings"""


@contextmanager
def only_rows(model: PreTrainedModel, ids: Tensor) -> Iterator[None]:
    """Inside of it, `model` has input embeddings for `ids` (int64, any shape) alone; behind it, all, these as trained.

    Does nothing where it could change more than speed: the model's embeddings are no plain table, or are used elsewhere
    too (tied to an output, or for token types). Call it only for a training without weight decay.
    """
    whole = model.get_input_embeddings()
    is_plain = type(whole) is nn.Embedding and whole.max_norm is None and not whole.scale_grad_by_freq
    is_shared = model.get_output_embeddings() is not None or model.config.model_type in _TYPES_ARE_WORDS
    if not is_plain or is_shared:
        yield
        return
    few = FewEmbeddings(whole, ids.flatten().to(whole.weight.device)).train(whole.training)
    model.set_input_embeddings(few)
    try:
        yield
    finally:
        model.set_input_embeddings(whole)
        with torch.no_grad():
            whole.weight[few.ids] = few.weight.to(whole.weight.dtype)
