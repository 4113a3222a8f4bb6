"""The rules `loss` and `entropy`: weights are the language model's loss or entropy at each token while it is hidden.

They follow Self-Evolution learning (Zhong et al. 2023, arXiv 2305.15275). It finds tokens that a model has not learned
yet by the correctness and the confidence of its predictions. The rules need forward passes of the language model;
`masking.refresh_steps` is the number of steps for which their results are reused.
"""

from functools import partial

import numpy as np

from nmg.base.types import MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import MaskingContext, ReadingDraw, choose, weighted_scores

LOSS, ENTROPY = 0, 1
"""Columns of `StateEncoder.surprise`."""


def sample_by_loss(
    blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder, *, column: int
) -> MaskPlan:
    """Sample tokens without replacement, each with probability ∝ its loss or entropy in nats.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        encode: reads the language model.
        column: `LOSS` or `ENTROPY`.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    surprise = encode.surprise(blocks)[:, :, column].to(blocks.input_ids.device)
    return choose(weighted_scores(surprise, blocks, rng), blocks, rate)


def loss_masking(_ingredients: MaskingContext) -> ReadingDraw:
    """Build the rule `loss`, which needs no inputs."""
    return partial(sample_by_loss, column=LOSS)


def entropy_masking(_ingredients: MaskingContext) -> ReadingDraw:
    """Build the rule `entropy`, which needs no inputs."""
    return partial(sample_by_loss, column=ENTROPY)
