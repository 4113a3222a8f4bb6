"""An LM that a feature can read by hand."""

import torch

from nmg.base.types import TokenBlocks

TEXTS = ["the enzyme ##ase 42 .", "the drug ##gy binds .", "the , enzyme"]
WORDS = ["the", "enzyme", "##ase", "42", ".", "drug", "##gy", "binds", ",", "never"]
COUNTS = {"the": 3, "enzyme": 2, "##ase": 1, "42": 1, ".": 2, "drug": 1, "##gy": 1, "binds": 1, ",": 1, "never": 0}


class Reader:
    """An LM whose loss at a token is its place, and whose entropy is twice that."""

    def __init__(self) -> None:
        self.blocks_read: list[int] = []

    def __call__(self, blocks: TokenBlocks) -> torch.Tensor:
        raise AssertionError("a linear policy reads no states")

    def surprise(self, blocks: TokenBlocks) -> torch.Tensor:
        self.blocks_read += blocks.block_ids.tolist()
        place = torch.arange(blocks.input_ids.shape[1]).expand_as(blocks.input_ids).float()
        return torch.stack([place, 2 * place], dim=2) * blocks.is_maskable[:, :, None]
