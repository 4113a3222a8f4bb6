"""A masking of your own: a name, and a function from blocks to the positions to mask.

    python examples/your_own_masking.py domain.txt --model bert-base-uncased

`choose` turns scores of tokens into a plan with an exact budget: the highest of each block win. Here the second half of
a text is masked first, and chance orders the rest.
"""

import argparse

import numpy as np
import torch

import nmg
from nmg.base.types import MaskPlan, TokenBlocks
from nmg.masking.base import Rule, choose, position_noise


def draw_second_half(blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
    place = torch.arange(blocks.input_ids.shape[1])
    is_late = place >= blocks.is_token.sum(dim=1, keepdim=True) / 2
    return choose(position_noise(blocks, rng) + is_late, blocks, rate)


parser = argparse.ArgumentParser(description="Adapt a masked language model with a masking of your own.")
parser.add_argument("corpus", help="texts: one per line")
parser.add_argument("--model", default="bert-base-uncased", help="hub name or folder (default: %(default)s)")
parser.add_argument("--config", help="configuration file with more settings")
args = parser.parse_args()

config = nmg.load_config(args.config, {"data.corpus": args.corpus, "model.name": args.model})
adapted = nmg.adapt(config, masking=Rule("second-half", draw_second_half), out="adapted")
print(adapted.summary())
