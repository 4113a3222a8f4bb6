"""A masking of your own: a name, and a function from blocks to the positions to mask.

    python examples/your_own_masking.py --model.name bert-base-uncased --data.corpus domain.txt

`choose` turns scores of tokens into a plan with an exact budget: the highest of each block win. Here the second half of
a text is masked first, and chance orders the rest.
"""

import sys

import numpy as np
import torch

import nmg
from nmg.base.types import MaskPlan, TokenBlocks
from nmg.masking.base import Rule, choose, position_noise


def draw_second_half(blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
    place = torch.arange(blocks.input_ids.shape[1])
    is_late = place >= blocks.is_token.sum(dim=1, keepdim=True) / 2
    return choose(position_noise(blocks, rng) + is_late, blocks, rate)


config = nmg.load_config(None, sys.argv[1:])
result = nmg.adapt(config, masking=Rule("second-half", draw_second_half), out="adapted")
print(result.summary())
