"""The rule `difference`: words similar to those that distinguish the domain from general text.

It follows Difference-Masking (Wilf et al. 2023, arXiv 2305.14577). *Anchors* are content words that are frequent in the
domain and rare in general text (`masking.anchors`). The closer the embedding of a word is to that of the nearest
anchor, the more often the word is masked.

As in the paper: anchors exclude stop words, only the nearest anchor counts, and masks are sampled by similarity.
Different from the paper (D35):

- Anchors have another score.
- The mean input embedding of a word's pieces replaces the hidden state of the word in isolation.
- `masking.difference_scale` scales the similarities.
- Without `masking.general_corpus`, the order of the vocabulary replaces the frequencies in general text.
"""

import logging
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from nmg.base.errors import UserError
from nmg.base.files import user_path
from nmg.base.types import MaskPlan, TokenBlocks
from nmg.data.formats.text import read_texts
from nmg.masking.anchors import (
    CountedWord,
    blocks_of,
    count_words,
    find_anchors,
    general_counts,
    guessed_general_counts,
)
from nmg.masking.base import Draw, MaskingContext, choose_units, number_units, unit_means, weighted_scores

_log = logging.getLogger(__name__)


def sample_by_domain_similarity(
    blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, similarity: Tensor, exponent: float
) -> MaskPlan:
    """Sample words without replacement, each with probability ∝ exp(exponent · similarity).

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        similarity: float64 [V], similarity of each piece to the nearest anchor. A word has the mean of its pieces.
        exponent: factor of the similarities; 0 makes all words equally likely.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    unit, _ = number_units(blocks.word_index, blocks)
    of_tokens = similarity.to(unit.device)[blocks.input_ids]
    of_words = unit_means(unit, of_tokens)
    return choose_units(unit, weighted_scores((exponent * of_words).exp(), blocks, rng), blocks, rate)


def difference_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `difference`. Raises UserError if the corpus, the model or any anchor is missing."""
    settings, corpus = ingredients.settings, ingredients.counted_corpus("difference")
    if ingredients.embeddings is None:
        raise UserError("the masking 'difference' compares embeddings: pass the language model (model=…)")
    here = count_words(blocks_of(corpus), ingredients.tokenizer)
    anchors = find_anchors(here, _general(ingredients), settings.difference_anchors)
    if not anchors:
        raise UserError(
            "the masking 'difference' finds no anchors: no content word is more frequent in the text of the domain "
            "than in general text (masking.general_corpus). Use more text or other general text"
        )
    ingredients.notify(f"difference: anchors {', '.join(word.text for word in anchors)}")
    similarity = similarity_to(anchors, ingredients.embeddings)
    return partial(sample_by_domain_similarity, similarity=similarity, exponent=settings.difference_scale)


def similarity_to(anchors: list[CountedWord], embeddings: Tensor) -> Tensor:
    """Return float64 [V]: the cosine similarity of each piece to the nearest anchor (`embeddings`: float [V, H])."""
    pieces = embeddings.detach().cpu().float()
    words = torch.stack([pieces[list(word.ids)].mean(dim=0) for word in anchors])
    return (normalize(pieces, dim=1) @ normalize(words, dim=1).T).amax(dim=1).double()


def _general(ingredients: MaskingContext) -> dict[str, float]:
    """Return word counts in general text; without such text, estimate them and log a warning."""
    path = ingredients.settings.general_corpus
    if path is not None:
        return general_counts(read_texts(user_path(path)), ingredients.tokenizer)
    _log.warning(
        "difference: there is no general text, so its word frequencies are estimated from the order of the vocabulary, "
        "which is inaccurate: set masking.general_corpus"
    )
    return guessed_general_counts(ingredients.tokenizer)
