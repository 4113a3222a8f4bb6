"""Small blocks and policies for the tests of policies and of learning."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from nmg.base.types import TokenBlocks
from nmg.learners.actor_critic.value import ValueNetwork
from nmg.policies.attention import INITIAL_SPREAD, AttentionConfig, AttentionPolicy

CLS, SEP, PAD = 1, 2, 0
Network = TypeVar("Network", bound=nn.Module)


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


def new_policy(seed: int = 0, hidden_size: int = 8, spread: float = 0.3, **config: Any) -> AttentionPolicy:
    """A policy whose weights are drawn wide enough for its logits to differ."""
    policy = AttentionPolicy(AttentionConfig(hidden_size=hidden_size, num_attention_heads=2, **config))
    return _drawn(policy, seed, spread)


def new_value(seed: int = 1, hidden_size: int = 8, n_hidden: int = 128, spread: float = 0.3) -> ValueNetwork:
    """A value network whose values differ."""
    return _drawn(ValueNetwork(hidden_size, n_hidden), seed, spread)


def _drawn(network: Network, seed: int, spread: float) -> Network:
    torch.manual_seed(seed)
    network.reset_parameters()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(spread / INITIAL_SPREAD)
    return network
