"""What a text is about: word pieces or words by frequency in the block × rarity in the corpus (TF-IDF).

As a masking: Belfathi et al. 2024 (arXiv 2402.12036), "Rand" variant: drawn by weight, not the top ones always.
"""

from functools import partial

import numpy as np
import torch

from nmg.masking.base import Draw, Ingredients, choose, choose_units, weighted_scores
from nmg.masking.idf import UNIT_KEYS, InverseDocumentFrequency, document_frequency
from nmg.types import MaskPlan, TokenBlocks


def draw_topical(
    blocks: TokenBlocks,
    rate: float,
    rng: np.random.Generator,
    *,
    idf: InverseDocumentFrequency,
    unit: str,
    sharpness: float,
) -> MaskPlan:
    """Tokens (`unit` "piece") or words ("word") without replacement, by weights (tf · idf) ** sharpness.

    tf: how often the unit occurs in the block, so a unit that occurs twice has its weight at both places.
    """
    keys, rows, columns = UNIT_KEYS[unit](blocks)
    distinct, which = np.unique(keys, return_inverse=True)
    _, of_block, times = np.unique(rows * max(len(distinct), 1) + which, return_inverse=True, return_counts=True)
    weights = torch.ones(blocks.input_ids.shape, dtype=torch.float64)
    weights[torch.from_numpy(rows), torch.from_numpy(columns)] = torch.from_numpy(
        (times[of_block] * idf(keys)) ** sharpness
    )
    scores = weighted_scores(weights, blocks, rng)
    return choose(scores, blocks, rate) if unit == "piece" else choose_units(blocks.word_index, scores, blocks, rate)


def tfidf_masking(ingredients: Ingredients) -> Draw:
    settings = ingredients.settings
    idf = document_frequency(ingredients, settings.idf_unit, "tf-idf")
    return partial(draw_topical, idf=idf, unit=settings.idf_unit, sharpness=settings.idf_sharpness)
