"""Restricts training of the word embeddings to the rows that occur.

A few hundred labelled texts contain a few thousand of the 30 522 word pieces of a vocabulary. All other rows get no
gradient, so AdamW without weight decay leaves them unchanged, but it still processes them at every step. With MiniLM,
this is half of the optimiser's work. Training a table of the rows that occur gives the same weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel


class EmbeddingSubset(nn.Embedding):
    """Subset of the rows of an embedding, addressed by their original ids.

    Args:
        whole: The full embedding.
        ids: Int64 tensor of ids to keep, of any shape. The padding id is added.

    Attributes:
        ids: int64 [N]: the kept ids in ascending order.
        row_of: int64 [V]: the row of each id in this table, or -1 if it is not kept.
    """

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
        """Look up the embeddings of original ids."""
        return F.embedding(self.row_of[input], self.weight, self.padding_idx)

    def rows(self, labels: Tensor) -> Tensor:
        """Map label ids on the CPU to rows of this table. Negative labels, which have no loss, are left unchanged."""
        return torch.where(labels < 0, labels, self._rows_on_cpu[labels.clamp(min=0)])


_TYPES_ARE_WORDS = {"xlm", "flaubert"}
"""Model types that look up token types among the word embeddings."""


@contextmanager
def only_rows(model: PreTrainedModel, ids: Tensor) -> Iterator[None]:
    """Restrict the input embeddings of `model` to `ids` within the context; on exit, write the trained rows back.

    The function has no effect if it could change more than speed: if the embedding is not a plain table, is tied to an
    output, or also serves token types. Use it only for training without weight decay.

    Args:
        model: The model to train.
        ids: Int64 tensor of ids to keep, of any shape.
    """
    whole = model.get_input_embeddings()
    is_plain = type(whole) is nn.Embedding and whole.max_norm is None and not whole.scale_grad_by_freq
    is_shared = model.get_output_embeddings() is not None or model.config.model_type in _TYPES_ARE_WORDS
    if not is_plain or is_shared:
        yield
        return
    few = EmbeddingSubset(whole, ids.flatten().to(whole.weight.device)).train(whole.training)
    model.set_input_embeddings(few)
    try:
        yield
    finally:
        model.set_input_embeddings(whole)
        with torch.no_grad():
            whole.weight[few.ids] = few.weight.to(whole.weight.dtype)
