"""Blocks end to end in one row, without padding.

All of an encoder but its attention works on every token by itself, so a row of all tokens of a batch, N of them, gives
what padded rows give, as long as positions start anew with each block and no block attends to another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

from nmg.errors import UserError
from nmg.fast.dropout import is_checkpointed

NAME = "nmg-packed"
FROM_ZERO, AFTER_PADDING = {"bert", "electra", "ernie"}, {"roberta", "xlm-roberta", "camembert"}
"""Types of models whose attention can be replaced; they count positions from 0, or from the padding's id + 1."""


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
    """Attention within each block, in the form that transformers asks for.

    Args:
        query, key, value: [1, heads, N, H / heads].
        block_lengths: add up to N. Neighbours of equal length are one batch.

    Returns:
        [1, N, heads, H / heads]
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
    """(length, how many blocks in a row have it)"""
    start = 0
    for index in range(1, len(lengths) + 1):
        if index == len(lengths) or lengths[index] != lengths[start]:
            yield lengths[start], index - start
            start = index


@contextmanager
def packing(model: PreTrainedModel) -> Iterator[None]:
    """Inside of it, `model` takes `packed_inputs` alone. Raises UserError for a model whose attention is its own, and
    for one that would run it again in the backward pass."""
    if is_checkpointed(model):
        raise UserError(
            "runtime.packing does not go with gradient checkpointing: set runtime.packing false, or switch "
            "checkpointing off on the model"
        )
    if model.config.model_type not in FROM_ZERO | AFTER_PADDING:
        raise UserError(
            f"runtime.packing: models of type '{model.config.model_type}' cannot be packed "
            f"(those that can: {', '.join(sorted(FROM_ZERO | AFTER_PADDING))})"
        )
    usual = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = usual


def packed_inputs(model: PreTrainedModel, input_ids: Tensor, is_token: Tensor) -> dict[str, Any]:
    """Arguments of the model for blocks [B, T], which are on the CPU: ids and positions [1, N]."""
    lengths, config = is_token.sum(dim=1), model.config
    first = config.pad_token_id + 1 if config.model_type in AFTER_PADDING else 0
    positions = first + torch.arange(is_token.shape[1]).expand_as(is_token)[is_token]
    return {
        "input_ids": input_ids[is_token].unsqueeze(0),
        "position_ids": positions.unsqueeze(0),
        "block_lengths": lengths.tolist(),
    }
