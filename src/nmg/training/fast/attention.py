"""Attention on the CPU, where torch's own is slow: with dropout, and in the backward pass in bfloat16.

torch 2.13 computes attention in one fused function. Its backward pass multiplies small blocks, which is fast in
float32. In bfloat16 it takes 44 ms for a layer of MiniLM (16 × 12 heads × 128 × 128, two cores with AMX). Products of
whole matrices take 5 ms. A fused function with dropout does not exist.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nmg.training.fast.dropout import dropout, is_supported


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Compute softmax(query · keyᵀ · scale, masked), with dropout, times value, like `F.scaled_dot_product_attention`.

    Args:
        query: Float [..., T, H / heads].
        key, value: Float [..., S, H / heads], with the same first dimensions as `query`.
        attn_mask: Broadcasts to [..., T, S]. If bool, False hides a position; if float, it is added to the scores.
        dropout_p: Dropout probability of the attention weights.
        scale: Factor of the scores, or None for (H / heads) ** -0.5.

    Returns:
        Float [..., T, H / heads].
    """
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    # torch.bmm reads a transposed key as it is. `@` on four dimensions would copy it element by element first.
    scores = torch.bmm(_as_matrices(query) * factor, _as_matrices(key).transpose(1, 2))
    scores = scores.view(*query.shape[:-1], key.shape[-2])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = dropout(scores.softmax(dim=-1), dropout_p)
    return torch.bmm(_as_matrices(weights), _as_matrices(value)).view(*query.shape[:-1], value.shape[-1])


def _as_matrices(tensor: Tensor) -> Tensor:
    """Return `tensor`, [..., T, H], as [N, T, H]."""
    return tensor.reshape(-1, *tensor.shape[-2:])


def is_slow_in_torch(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether `attention` is faster than this call of `F.scaled_dot_product_attention`, and computes the same.

    It is faster for floating-point tensors on the CPU with dropout, or in bfloat16 if a backward pass follows. It does
    not know causal attention and grouped heads.
    """
    query, key, value = (args[n] if len(args) > n else kwargs[name] for n, name in enumerate(("query", "key", "value")))
    p = args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0)
    is_special = len(args) > 5 or kwargs.get("is_causal", False) or kwargs.get("enable_gqa", False)
    is_slow = p > 0.0 or (query.dtype == torch.bfloat16 and torch.is_grad_enabled() and query.requires_grad)
    same_heads = query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    return bool(is_slow and not is_special and same_heads and is_supported(query))
