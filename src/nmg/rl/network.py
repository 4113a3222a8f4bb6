"""The policy that is learned: two small networks on the hidden states of a language model.

`policy` scores every position of a block, `value` estimates the reward of a block; they share no weights. The
architecture is that of the paper (arXiv 2010.02705) and its original code: one self-attention block of BERT without
feed-forward part, then a head of two layers with 128 units between.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel

from nmg.errors import UserError

_WEIGHTS = "model.safetensors"


class MaskPolicyConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of a `MaskPolicy`, and what it was trained with.

    Args:
        hidden_size: H of the language model whose states the policy reads.
        head_hidden: units of the hidden layer of both heads.
        base_model: name of the language model the policy was trained with; for the reader.
        masking_rate: share of maskable tokens the policy was trained to choose; for the reader.
    """

    model_type = "nmg-mask-policy"

    def __init__(
        self,
        hidden_size: int = 768,
        num_attention_heads: int = 12,
        head_hidden: int = 128,
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        base_model: str = "",
        masking_rate: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if hidden_size % num_attention_heads:
            raise ValueError(f"hidden size {hidden_size} is no multiple of {num_attention_heads} attention heads")
        self.hidden_size = hidden_size
        self.num_attention_heads = num_attention_heads
        self.head_hidden = head_hidden
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.base_model = base_model
        self.masking_rate = masking_rate


class SelfAttention(nn.Module):
    """LayerNorm(x + output(attention(x))): the attention part of a BERT layer (arXiv 1706.03762, 1810.04805)."""

    def __init__(self, config: MaskPolicyConfig) -> None:
        super().__init__()
        self.n_heads = int(config.num_attention_heads)
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor, is_token: Tensor) -> Tensor:
        """[B, T, H] from states [B, T, H]; every position attends to the positions where is_token, bool [B, T]."""
        # H → heads × (H / heads), heads before T
        query, key, value = (
            layer(states).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=is_token[:, None, None, :])
        normed: Tensor = self.norm(states + self.output(mixed.transpose(1, 2).flatten(2)))
        return normed


def _head(config: MaskPolicyConfig) -> nn.Sequential:
    return nn.Sequential(nn.Linear(config.hidden_size, config.head_hidden), nn.GELU(), nn.Linear(config.head_hidden, 1))


class MaskPolicy(PreTrainedModel):  # type: ignore[misc]
    """A distribution over the maskable positions of a block, and the value of the block.

    Weights are drawn as in BERT: normal with standard deviation `initializer_range`, biases zero.
    """

    config_class = MaskPolicyConfig
    base_model_prefix = ""

    def __init__(self, config: MaskPolicyConfig) -> None:
        super().__init__(config)
        self.policy = nn.ModuleDict({"attention": SelfAttention(config), "head": _head(config)})
        self.value = nn.ModuleDict({"head": _head(config)})
        self.post_init()

    def logits(self, states: Tensor, is_token: Tensor, is_maskable: Tensor) -> Tensor:
        """float [B, T]: one logit for each maskable position, -inf elsewhere.

        Args:
            states: float [B, T, H], last hidden states of the language model on the unmasked block.
            is_token: bool [B, T]; the positions attended to.
            is_maskable: bool [B, T]; the positions that may be chosen.
        """
        attended = self.policy["attention"](states.to(self.dtype), is_token)
        scores: Tensor = self.policy["head"](attended).squeeze(-1)
        return scores.masked_fill(~is_maskable, -torch.inf)

    def values(self, states: Tensor, is_token: Tensor) -> Tensor:
        """float [B]: estimated reward of each block, from the mean state over its tokens. Arguments as in `logits`."""
        weights = is_token.to(self.dtype).unsqueeze(-1)
        mean_state = (states.to(self.dtype) * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        values: Tensor = self.value["head"](mean_state).squeeze(-1)
        return values

    def forward(self, states: Tensor, is_token: Tensor, is_maskable: Tensor) -> tuple[Tensor, Tensor]:
        """`logits` [B, T] and `values` [B]."""
        return self.logits(states, is_token, is_maskable), self.values(states, is_token)


def log_probabilities(logits: Tensor, is_maskable: Tensor) -> Tensor:
    """float [B, T]: log-softmax over the maskable positions of each row, -inf elsewhere.

    Rows without a maskable position are -inf throughout: neither NaN there nor in any gradient.
    """
    # The lowest finite number instead of -inf: a row of nothing but -inf has no softmax.
    finite = logits.masked_fill(~is_maskable, torch.finfo(logits.dtype).min)
    return finite.log_softmax(dim=-1).masked_fill(~is_maskable, -torch.inf)


def load_policy(folder: Path) -> MaskPolicy:
    """The policy saved in `folder` (config.json, model.safetensors), on the CPU and in evaluation mode.

    Raises UserError where the folder is missing or does not hold exactly the weights of a mask policy.
    """
    for name in ("config.json", _WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not the folder of a mask policy: it has no file {name}")
    try:
        settings, _ = MaskPolicyConfig.get_config_dict(folder)
        if settings.get("model_type") != MaskPolicyConfig.model_type:
            raise UserError(f"{folder} holds a model of type {settings.get('model_type')!r}, not a mask policy")
        # On the meta device nothing is drawn from torch's generator.
        with torch.device("meta"):
            policy: MaskPolicy = MaskPolicy(MaskPolicyConfig.from_dict(settings))
        policy.load_state_dict(load_file(folder / _WEIGHTS), assign=True)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot load the mask policy: {error}") from error
    policy.eval()
    return policy


def check_fits(policy: MaskPolicy, hidden_size: int) -> None:
    """Raises UserError where the policy was made for another size of hidden states than the language model's."""
    if policy.config.hidden_size != hidden_size:
        raise UserError(
            f"the mask policy was made for hidden states of size {policy.config.hidden_size}, "
            f"but those of the language model have size {hidden_size}"
        )
