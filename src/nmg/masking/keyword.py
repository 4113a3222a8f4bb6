"""The rule `keyword`: a list of words first, then other words.

Golchin et al. (2023, arXiv 2307.07160) extract the list from text of the domain with KeyBERT.
"""

from functools import partial
from pathlib import Path

import numpy as np

from nmg.base.errors import UserError
from nmg.base.types import MaskPlan, TokenBlocks
from nmg.data.formats.reading import read_lines
from nmg.masking.base import Draw, MaskingContext, choose_units, position_noise
from nmg.masking.phrases import Phrases


def draw_keywords(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, keywords: Phrases) -> MaskPlan:
    """Select whole keywords and key phrases in random order, then the other words in random order.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        keywords: the words and phrases to select first.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    unit, is_keyword = keywords.find(blocks, 0.0)
    return choose_units(unit, position_noise(blocks, rng) + is_keyword, blocks, rate)


def keyword_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `keyword`. Raises UserError if `masking.keywords` names no words."""
    given = ingredients.settings.keywords
    words = [word for _, word in read_lines(Path(given).expanduser())] if isinstance(given, str) else given or ()
    if not words:
        raise UserError("the masking 'keyword' needs words: set masking.keywords to a list or a file with one per line")
    return partial(draw_keywords, keywords=Phrases.of(dict.fromkeys(words, 1.0), ingredients.tokenizer))
