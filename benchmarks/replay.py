"""The replay memory at 50 000 transitions: bytes a state, seconds a draw and an update."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pairs import alternate, median
from nmg.base.types import MaskPlan, TokenBlocks
from nmg.learners.actor_critic.replay import Replay, StateShard, token_counts
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.actor_critic.update import new_optimiser, update_policy
from nmg.learners.actor_critic.value import ValueNetwork
from nmg.policies.attention import AttentionConfig, AttentionPolicy

TRANSITIONS, BATCH = 50_000, 64
TOKENS, CHOSEN, BLOCKS = 128, 10, 200
"""tokens of the longest block, actions a block, blocks an episode"""


def run(quick: bool, _cache: Path) -> dict[str, Any]:
    """Against one padded fp32 state for each context and player, which is what the original code keeps."""
    hidden = 128
    rng = np.random.default_rng(0)
    memory = Replay(TRANSITIONS, TRANSITIONS)
    tokens = []
    for index in range(TRANSITIONS // (BLOCKS * CHOSEN)):
        blocks = _blocks(rng)
        tokens.append(blocks.is_token.sum().item() / BLOCKS)
        plan = MaskPlan(
            torch.stack([torch.randperm(20)[:CHOSEN] for _ in range(BLOCKS)]) + 1,
            torch.full((BLOCKS,), CHOSEN),
            log_prob=torch.full((BLOCKS, CHOSEN), -3.0),
        )
        shard = StateShard.pack(torch.randn(BLOCKS, TOKENS, hidden), blocks)
        reward = torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], (BLOCKS, CHOSEN))).float()
        memory.add(index, shard, plan, torch.zeros(BLOCKS), reward, plan.is_chosen, token_counts(blocks, plan))
    policy = AttentionPolicy(AttentionConfig(hidden_size=hidden, num_attention_heads=2))
    value = ValueNetwork(policy.observation_size, policy.config.head_hidden)
    settings = ActorCriticSettings(updates_per_episode=1)
    optimiser = new_optimiser(policy, value, settings)
    seconds = alternate(
        {
            "draw": lambda: memory.batch(memory.sample(BATCH, rng, "advantage")),
            "update": lambda: update_policy(policy, value, optimiser, memory, settings, 25, rng),
        },
        10 if quick else 50,
    )
    padded = TOKENS * hidden * 4
    states = sum(shard.nbytes for shard in memory.shards.values()) / memory.n_states
    return {
        "replay_transitions": len(memory),
        "replay_draw_seconds_50k": median(seconds["draw"]),
        "replay_update_seconds_50k": median(seconds["update"]),
        "replay_bytes_per_state": states,
        "replay_tokens_per_state": float(np.mean(tokens)),
        "replay_bytes_share_of_padded_fp32": states / padded,
    }


def _blocks(rng: np.random.Generator) -> TokenBlocks:
    lengths = torch.from_numpy(rng.integers(30, TOKENS + 1, BLOCKS))
    is_token = torch.arange(TOKENS) < lengths[:, None]
    is_maskable = is_token & (torch.arange(TOKENS) > 0) & (torch.arange(TOKENS) < lengths[:, None] - 1)
    ids = torch.from_numpy(rng.integers(1000, 30_000, (BLOCKS, TOKENS))).masked_fill(~is_token, 0)
    index = torch.arange(BLOCKS)
    return TokenBlocks(index, index, ids, is_token, is_maskable, torch.where(is_maskable, torch.arange(TOKENS), -1))
