"""The rule `frequency`: weights are a power of token frequency, count^−α.

XLM samples tokens in this way, with α = 0.5 in the paper (Lample and Conneau 2019, arXiv 1901.07291, section 3.3;
`sample_alpha` in its code).
"""

from functools import partial

import numpy as np
import torch

from nmg.base.types import FloatArray, MaskPlan, TokenBlocks
from nmg.masking.base import Draw, MaskingContext, choose, weighted_scores
from nmg.masking.counts import piece_counts


def draw_by_frequency(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, weights: FloatArray) -> MaskPlan:
    """Sample tokens without replacement, each with probability ∝ its weight.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        weights: float64 [V], the weight of each piece.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    of_tokens = torch.from_numpy(weights[blocks.input_ids.cpu().numpy()])
    return choose(weighted_scores(of_tokens, blocks, rng), blocks, rate)


def frequency_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `frequency` with the exponent `masking.frequency_alpha`."""
    counts = piece_counts(ingredients, "frequency")
    return partial(draw_by_frequency, weights=np.maximum(counts, 1.0) ** -ingredients.settings.frequency_alpha)
