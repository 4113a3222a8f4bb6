"""The rule `tf-idf`: weights are frequency in the block × inverse document frequency in the corpus.

It follows the "Rand" variant of Belfathi et al. (2024, arXiv 2402.12036), which samples by weight instead of always
selecting the units with the highest weights.
"""

from functools import partial

import numpy as np
import torch

from nmg.base.types import MaskPlan, TokenBlocks
from nmg.masking.base import Draw, MaskingContext, choose, choose_units, weighted_scores
from nmg.masking.idf import UNIT_KEYS, InverseDocumentFrequency, document_frequency


def draw_topical(
    blocks: TokenBlocks,
    rate: float,
    rng: np.random.Generator,
    *,
    idf: InverseDocumentFrequency,
    unit: str,
    exponent: float,
) -> MaskPlan:
    """Sample tokens or words without replacement, each with probability ∝ (tf · idf) ** exponent.

    tf is the number of occurrences of the unit in the block. Each occurrence of a unit has the same weight.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        idf: inverse document frequencies of the units.
        unit: "piece" to sample tokens, "word" to sample whole words.
        exponent: exponent of the weights; 0 makes all units equally likely.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    keys, rows, columns = UNIT_KEYS[unit](blocks)
    distinct, which = np.unique(keys, return_inverse=True)
    _, of_block, times = np.unique(rows * max(len(distinct), 1) + which, return_inverse=True, return_counts=True)
    weights = torch.ones(blocks.input_ids.shape, dtype=torch.float64)
    weights[torch.from_numpy(rows), torch.from_numpy(columns)] = torch.from_numpy(
        (times[of_block] * idf(keys)) ** exponent
    )
    scores = weighted_scores(weights, blocks, rng)
    return choose(scores, blocks, rate) if unit == "piece" else choose_units(blocks.word_index, scores, blocks, rate)


def tfidf_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `tf-idf`. Raises UserError if words are to be counted and there is no corpus."""
    settings = ingredients.settings
    idf = document_frequency(ingredients, settings.idf_unit, "tf-idf")
    return partial(draw_topical, idf=idf, unit=settings.idf_unit, exponent=settings.idf_exponent)
