"""Packs all blocks of a batch into one row without padding.

Except for attention, an encoder processes each token independently. One row of all N tokens of a batch therefore gives
the same results as padded rows. This requires that positions restart with each block and that no block attends to
another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

from nmg.base.errors import UserError
from nmg.training.fast.functions import is_checkpointed
from nmg.training.fast.model_types import AFTER_PADDING, BERT_LIKE

NAME = "nmg-packed"
"""Name of the attention implementation in transformers."""


def packed_attention(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: None,
    *,
    block_lengths: list[int],
    dropout: float = 0.0,
    scaling: float | None = None,
    **_others: Any,
) -> tuple[Tensor, None]:
    """Compute attention within each block, with the signature that transformers requires.

    Args:
        query, key, value: Float [1, heads, N, H / heads].
        block_lengths: Tokens per block; the sum is N. Adjacent blocks of equal length form one batch.
        dropout: Dropout probability of the attention weights.
        scaling: Factor of the scores, or None for (H / heads) ** -0.5.

    Returns:
        Float [1, N, heads, H / heads], and None instead of attention weights.
    """
    mixed, first = [], 0
    for length, n in _runs(block_lengths):
        q, k, v = (
            tensor[0, :, first : first + n * length].reshape(tensor.shape[1], n, length, -1).transpose(0, 1)
            for tensor in (query, key, value)
        )
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)  # [n, heads, length, ...]
        mixed.append(found.transpose(1, 2).flatten(0, 1))
        first += n * length
    return torch.cat(mixed).unsqueeze(0), None


AttentionInterface.register(NAME, packed_attention)


def _runs(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (length, number of adjacent blocks with this length)."""
    start = 0
    for index in range(1, len(lengths) + 1):
        if index == len(lengths) or lengths[index] != lengths[start]:
            yield lengths[start], index - start
            start = index


@contextmanager
def packing(model: PreTrainedModel) -> Iterator[None]:
    """Make `model` accept only `packed_inputs` within the context.

    Raises:
        UserError: If the attention of this model type cannot be replaced, or if gradient checkpointing is on.
    """
    if is_checkpointed(model):
        raise UserError(
            "runtime.packing cannot be combined with gradient checkpointing: set runtime.packing false, or turn off "
            "checkpointing of the model"
        )
    if model.config.model_type not in BERT_LIKE:
        raise UserError(
            f"runtime.packing: models of type '{model.config.model_type}' cannot be packed "
            f"(possible types: {', '.join(sorted(BERT_LIKE))}): set runtime.packing false"
        )
    usual = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = usual


def packed_inputs(model: PreTrainedModel, input_ids: Tensor, is_token: Tensor) -> dict[str, Any]:
    """Build the model arguments for a batch of blocks as one row of N tokens.

    Args:
        model: The model that will receive the arguments.
        input_ids: int64 [B, T] on the CPU: token ids.
        is_token: bool [B, T] on the CPU: False at padding.

    Returns:
        Token ids and position ids, int64 [1, N], and the lengths of the blocks.
    """
    lengths, config = is_token.sum(dim=1), model.config
    first = config.pad_token_id + 1 if config.model_type in AFTER_PADDING else 0
    positions = first + torch.arange(is_token.shape[1]).expand_as(is_token)[is_token]
    return {
        "input_ids": input_ids[is_token].unsqueeze(0),
        "position_ids": positions.unsqueeze(0),
        "block_lengths": lengths.tolist(),
    }
