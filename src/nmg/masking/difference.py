"""Words like those that set the domain apart (Difference-Masking, Wilf et al. 2023, arXiv 2305.14577).

*Anchors* are the content words of the domain that are frequent here and rare in general text (`masking.anchors`). A
word is masked the more often, the nearer its embedding is to that of the nearest anchor.

As in the paper: anchors are words without stop words, the nearest one counts, masks are drawn from the similarities.
Ours (D35): the score of anchors; input embeddings, of which a word has the mean over its pieces, stand for the hidden
state of the word alone; similarities are sharpened (`masking.difference_sharpness`); without `masking.general_corpus`
the order of the vocabulary stands for frequency in general text.
"""

import logging
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from nmg.data.formats.text import read_texts
from nmg.errors import UserError
from nmg.files import user_path
from nmg.masking.anchors import (
    CountedWord,
    blocks_of,
    count_words,
    find_anchors,
    general_counts,
    guessed_general_counts,
)
from nmg.masking.base import Draw, Ingredients, choose_units, number_units, unit_means, weighted_scores
from nmg.types import MaskPlan, TokenBlocks

_log = logging.getLogger(__name__)


def draw_different(
    blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, similarity: Tensor, sharpness: float
) -> MaskPlan:
    """Words without replacement, the next one with probability ∝ exp(sharpness · similarity).

    Args:
        similarity: float64 [V], of every piece to the nearest anchor; a word has the mean of its pieces.
    """
    unit, _ = number_units(blocks.word_index, blocks)
    of_tokens = similarity.to(unit.device)[blocks.input_ids]
    of_words = unit_means(unit, of_tokens)
    return choose_units(unit, weighted_scores((sharpness * of_words).exp(), blocks, rng), blocks, rate)


def difference_masking(ingredients: Ingredients) -> Draw:
    """Raises UserError without text of the domain, without a language model, and if no word may be an anchor."""
    settings, corpus = ingredients.settings, ingredients.counted_corpus("difference")
    if ingredients.embeddings is None:
        raise UserError("the masking 'difference' compares embeddings: it needs the language model (model=…)")
    here = count_words(blocks_of(corpus), ingredients.tokenizer)
    anchors = find_anchors(here, _general(ingredients), settings.difference_anchors)
    if not anchors:
        raise UserError(
            "the masking 'difference' finds no anchors: no content word is more frequent in the text of the domain "
            "than in general text (masking.general_corpus). Give more text, or other general text"
        )
    ingredients.notify(f"difference: anchors {', '.join(word.text for word in anchors)}")
    similarity = similarity_to(anchors, ingredients.embeddings)
    return partial(draw_different, similarity=similarity, sharpness=settings.difference_sharpness)


def similarity_to(anchors: list[CountedWord], embeddings: Tensor) -> Tensor:
    """float64 [V]: the cosine of every piece with the nearest anchor, for `embeddings` float [V, H]."""
    pieces = embeddings.detach().cpu().float()
    words = torch.stack([pieces[list(word.ids)].mean(dim=0) for word in anchors])
    return (normalize(pieces, dim=1) @ normalize(words, dim=1).T).amax(dim=1).double()


def _general(ingredients: Ingredients) -> dict[str, float]:
    path = ingredients.settings.general_corpus
    if path is not None:
        return general_counts(read_texts(user_path(path)), ingredients.tokenizer)
    _log.warning(
        "difference: no general text is given (masking.general_corpus), so the order of the vocabulary stands for word "
        "frequency in it, which is a guess"
    )
    return guessed_general_counts(ingredients.tokenizer)
