"""Small blocks, plans and policies for the tests of learning."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nmg.rl.network import MaskPolicy, MaskPolicyConfig
from nmg.types import NO_POSITION, MaskPlan, TokenBlocks

CLS, SEP, PAD = 1, 2, 0


def blocks_of(rows: Sequence[Sequence[int]], n_tokens: int | None = None) -> TokenBlocks:
    """Blocks `[CLS] ids [SEP]`, padded to `n_tokens` or the longest."""
    width = n_tokens or max(len(row) + 2 for row in rows)
    input_ids = torch.full((len(rows), width), PAD)
    is_token = torch.zeros(len(rows), width, dtype=torch.bool)
    is_maskable = is_token.clone()
    for b, row in enumerate(rows):
        input_ids[b, : len(row) + 2] = torch.tensor([CLS, *row, SEP])
        is_token[b, : len(row) + 2] = True
        is_maskable[b, 1 : len(row) + 1] = True
    index = torch.arange(len(rows))
    return TokenBlocks(index, index.clone(), input_ids, is_token, is_maskable, torch.where(is_maskable, 0, -1))


def plan_of(rows: Sequence[Sequence[int]], log_prob: Tensor | None = None, value: Tensor | None = None) -> MaskPlan:
    """A plan with these positions."""
    width = max((len(row) for row in rows), default=0)
    padded = [[*row, *[NO_POSITION] * (width - len(row))] for row in rows]
    positions = torch.tensor(padded, dtype=torch.int64).reshape(len(rows), width)
    return MaskPlan(positions, torch.tensor([len(row) for row in rows]), log_prob=log_prob, value=value)


def new_policy(seed: int = 0, hidden_size: int = 8, spread: float = 0.3) -> MaskPolicy:
    """A policy whose weights are drawn wide enough for its logits to differ."""
    torch.manual_seed(seed)
    return MaskPolicy(MaskPolicyConfig(hidden_size=hidden_size, num_attention_heads=2, initializer_range=spread))
