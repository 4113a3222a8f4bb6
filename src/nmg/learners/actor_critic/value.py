"""The critic: what reward a block promises."""

import torch
from torch import Tensor, nn

from nmg.policies.attention import draw_as_bert, new_head
from nmg.policies.base import in_chunks
from nmg.types import TokenBlocks


class ValueNetwork(nn.Module):
    """Mean over the tokens of a block → two layers → one number; it shares no weights with the policy."""

    def __init__(self, observation_size: int, n_hidden: int) -> None:
        super().__init__()
        self.head = new_head(observation_size, n_hidden)

    def forward(self, observation: Tensor, is_token: Tensor) -> Tensor:
        """float [B]: estimated reward of each block.

        Args:
            observation: float [B, T, F], what the policy looks at.
            is_token: bool [B, T]
        """
        weights = is_token.to(observation.dtype).unsqueeze(-1)
        mean = (observation * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        values: Tensor = self.head(mean).squeeze(-1)
        return values

    def reset_parameters(self) -> None:
        draw_as_bert(self)

    @torch.no_grad()
    def predict(self, observation: Tensor, blocks: TokenBlocks) -> Tensor:
        """float32 [B] on the device of `blocks`, a few blocks at a time to save memory."""
        device = next(self.parameters()).device
        return in_chunks(self, device, observation, blocks.is_token).to(blocks.input_ids.device)
