"""What the language model finds hard, by its loss or its entropy at each token while that is hidden.

As a masking: Self-Evolution learning (Zhong et al. 2023, arXiv 2305.15275), which finds tokens that a model has not
learned yet by the correctness and by the confidence of what it predicts. Reading costs passes of the LM;
`masking.refresh_steps` keeps what was read for so many steps.
"""

from functools import partial

import numpy as np

from nmg.masking.base import Ingredients, ReadingDraw, choose, weighted_scores
from nmg.types import MaskPlan, StateEncoder, TokenBlocks

LOSS, ENTROPY = 0, 1
"""columns of `StateEncoder.surprise`"""


def draw_hard(
    blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder, *, column: int
) -> MaskPlan:
    """Tokens without replacement, the next one with probability ∝ its loss or entropy in nats."""
    surprise = encode.surprise(blocks)[:, :, column].to(blocks.input_ids.device)
    return choose(weighted_scores(surprise, blocks, rng), blocks, rate)


def loss_masking(_ingredients: Ingredients) -> ReadingDraw:
    return partial(draw_hard, column=LOSS)


def entropy_masking(_ingredients: Ingredients) -> ReadingDraw:
    return partial(draw_hard, column=ENTROPY)
