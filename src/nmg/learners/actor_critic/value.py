"""The critic: estimates the expected reward of a block."""

import torch
from torch import Tensor, nn

from nmg.base.types import TokenBlocks
from nmg.policies.attention import draw_as_bert, new_head
from nmg.policies.base import in_chunks


class ValueNetwork(nn.Module):
    """A two-layer network on the mean observation of a block's tokens. It shares no weights with the policy."""

    def __init__(self, observation_size: int, n_hidden: int) -> None:
        super().__init__()
        self.head = new_head(observation_size, n_hidden)

    def forward(self, observation: Tensor, is_token: Tensor) -> Tensor:
        """Estimate the reward of each block.

        Args:
            observation: float [B, T, F], the observation of the policy.
            is_token: bool [B, T], False at padding.

        Returns:
            float [B], the estimated rewards.
        """
        weights = is_token.to(observation.dtype).unsqueeze(-1)
        mean = (observation * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        values: Tensor = self.head(mean).squeeze(-1)
        return values

    def reset_parameters(self) -> None:
        """Initialize the weights as in BERT, with torch's generator."""
        draw_as_bert(self)

    @torch.no_grad()
    def predict(self, observation: Tensor, blocks: TokenBlocks) -> Tensor:
        """Estimate the reward of each block without gradients, in chunks to save memory.

        Returns float32 [B] on the device of `blocks`.
        """
        device = next(self.parameters()).device
        return in_chunks(self, device, observation, blocks.is_token).to(blocks.input_ids.device)
