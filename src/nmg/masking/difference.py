"""Words like those that set the domain apart (Difference-Masking, Wilf et al. 2023, arXiv 2305.14577).

*Anchors* are the words of the domain with the highest TF-ICF: frequent here, rare in general text. A word is masked the
more often, the nearer its embedding is to that of the nearest anchor.

As in the paper: anchors by TF-ICF, the nearest one counts, masks are drawn from the similarities. Ours: pieces stand
for words in counts, so that no word list is needed; similarities are sharpened (`masking.difference_sharpness`), for
cosines of embeddings hardly differ; without `masking.general_corpus` the order of the vocabulary stands for frequency
in general text.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from nmg.data.cutting import cut_texts
from nmg.data.formats.text import read_texts
from nmg.errors import UserError
from nmg.files import user_path
from nmg.masking.base import Draw, Ingredients, choose_units, number_units, unit_means, weighted_scores
from nmg.masking.counts import counted, guessed_counts
from nmg.types import FloatArray, IntArray, MaskPlan, TokenBlocks


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
    """Raises UserError without text of the domain or without a language model."""
    settings, corpus = ingredients.settings, ingredients.counted_corpus("difference")
    if ingredients.embeddings is None:
        raise UserError("the masking 'difference' compares embeddings: it needs the language model (model=…)")
    here = counted(corpus, ingredients.tokenizer)
    anchors = find_anchors(here, _general_counts(ingredients, len(here)), settings.difference_anchors)
    embeddings = normalize(ingredients.embeddings.detach().double().cpu()[: len(here)], dim=1)
    similarity = (embeddings @ embeddings[torch.from_numpy(anchors)].T).amax(dim=1)
    return partial(draw_different, similarity=similarity, sharpness=settings.difference_sharpness)


def find_anchors(here: FloatArray, in_general: FloatArray, n: int) -> IntArray:
    """The `n` pieces with the highest TF-ICF, at most those that occur here.

    TF-ICF = (share of the domain) · ln(pieces in general text / (1 + occurrences there)); counts are [V].
    """
    scores = here / max(here.sum(), 1) * np.log(max(in_general.sum(), 1) / (1.0 + in_general))
    best: IntArray = np.argsort(-scores, kind="stable")[: min(n, int((here > 0).sum()))]
    return best


def _general_counts(ingredients: Ingredients, size: int) -> FloatArray:
    general = ingredients.settings.general_corpus
    if general is None:
        return guessed_counts(ingredients.tokenizer)
    counts = np.zeros(size)
    for columns in cut_texts(read_texts(user_path(general)), ingredients.tokenizer, 510):
        ids, words = (columns[name].values.to_numpy() for name in ("input_ids", "word_index"))
        counts += np.bincount(ids[words >= 0], minlength=size)
    return counts
