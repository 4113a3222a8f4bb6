"""The policy of the paper: a small network on the hidden states of the language model.

The architecture follows the paper (arXiv 2010.02705) and its original code. It has one self-attention block of BERT
without the feed-forward part, followed by a two-layer head with 128 hidden units.
"""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmg.base.errors import UserError
from nmg.base.section import Count, Positive, Section
from nmg.base.types import StateEncoder, TokenBlocks
from nmg.policies.base import Policy, PolicyConfig, PolicyContext, Unit

INITIAL_SPREAD = 0.02
"""Standard deviation of initial weights, as in BERT."""


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(PolicyConfig):
    """Configuration of an `AttentionPolicy`. Raises ValueError if H is not a multiple of the number of heads."""

    hidden_size: Count = 768
    """Hidden size H of the language model whose states the policy reads."""
    num_attention_heads: Count = 12
    """Number of attention heads; must divide H."""
    head_hidden: Count = 128
    """Number of hidden units of the head."""
    layer_norm_eps: Positive = 1e-12
    """Epsilon of the LayerNorm."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden size {self.hidden_size} is not a multiple of {self.num_attention_heads} attention heads"
            )


class SelfAttention(nn.Module):
    """LayerNorm(x + output(attention(x))): the attention part of a BERT layer (arXiv 1706.03762, 1810.04805)."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.n_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor, is_token: Tensor) -> Tensor:
        """Map float states [B, T, H] to [B, T, H]. Positions attend only to those with `is_token`, bool [B, T]."""
        # Split H into heads × (H / heads) and move the heads before T.
        query, key, value = (
            layer(states).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=is_token[:, None, None, :])
        normed: Tensor = self.norm(states + self.output(mixed.transpose(1, 2).flatten(2)))
        return normed


def new_head(n_inputs: int, n_hidden: int) -> nn.Sequential:
    """Return a two-layer head with one output, as in the policy and the value network of the paper."""
    return nn.Sequential(nn.Linear(n_inputs, n_hidden), nn.GELU(), nn.Linear(n_hidden, 1))


def draw_as_bert(module: nn.Module) -> None:
    """Initialize linear layers as in BERT: normal weights with standard deviation `INITIAL_SPREAD`, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=INITIAL_SPREAD)
            nn.init.zeros_(part.bias)


class AttentionPolicy(Policy):
    """Scores the maskable positions of a block from the LM's last hidden states on the unmasked block."""

    kind = "attention"
    config_class = AttentionConfig
    config: AttentionConfig

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config
        self.policy = nn.ModuleDict(
            {"attention": SelfAttention(config), "head": new_head(config.hidden_size, config.head_hidden)}
        )

    @classmethod
    def from_settings(cls, settings: "AttentionSettings", ground: PolicyContext) -> Self:
        """Build a policy with the hidden size and the number of heads of the language model."""
        return cls(
            AttentionConfig(
                **ground.provenance,
                hidden_size=ground.hidden_size,
                num_attention_heads=ground.n_heads,
                head_hidden=settings.hidden,
                unit=settings.unit,
            )
        )

    @property
    def observation_size(self) -> int:
        """F = H, the hidden size of the language model."""
        return self.config.hidden_size

    def observe(self, blocks: TokenBlocks, encode: StateEncoder) -> Tensor:
        """Return the last hidden states of the LM, float [B, T, H]."""
        return encode(blocks)

    def logits(self, observation: Tensor, is_token: Tensor, is_maskable: Tensor) -> Tensor:
        """Compute the logit of each maskable position from the hidden states.

        Args:
            observation: float [B, T, H], as returned by `observe`.
            is_token: bool [B, T], False at padding.
            is_maskable: bool [B, T], True for positions that may be masked.

        Returns:
            float [B, T], -inf at positions that are not maskable.
        """
        attended = self.policy["attention"](observation, is_token)
        scores: Tensor = self.policy["head"](attended).squeeze(-1)
        return scores.masked_fill(~is_maskable, -torch.inf)

    def reset_parameters(self) -> None:
        """Initialize the weights as in BERT, with torch's generator."""
        draw_as_bert(self)

    def check_fits(self, hidden_size: int, vocabulary_size: int) -> None:  # noqa: ARG002
        """Raise UserError if the hidden size of the language model differs from that of the policy."""
        if self.config.hidden_size != hidden_size:
            raise UserError(
                f"the mask policy was trained on hidden states of size {self.config.hidden_size}, but those of the "
                f"language model have size {hidden_size}: use the policy with the model that it was trained with"
            )


class AttentionSettings(Section):
    """Settings of an `AttentionPolicy`."""

    kind: Literal["attention"] = "attention"
    hidden: Count = 128
    """Number of hidden units of the head."""
    unit: Unit = "token"
    """Whether to select single tokens, or whole words by the mean of their logits."""
