"""How often word pieces occur: counted in text of the domain, or guessed from the order of the vocabulary.

Vocabularies are built in order of frequency, or nearly so, and a piece's frequency is about inverse to its rank (Zipf's
law). So where there is no text to count in, 1 / rank stands for the share of a piece, up to a factor.
"""

import logging
from typing import TYPE_CHECKING

import numpy as np

from nmg.masking.base import Ingredients
from nmg.masking.corrupt import Vocabulary
from nmg.types import FloatArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

BLOCKS_AT_A_TIME = 256

_log = logging.getLogger(__name__)


def piece_counts(ingredients: Ingredients) -> FloatArray:
    """[V] of every piece in the corpus, or the guess where there is none."""
    if ingredients.corpus is None:
        say_that_counts_are_guessed()
        return guessed_counts(ingredients.tokenizer)
    return counted(ingredients.corpus, ingredients.tokenizer)


def counted(corpus: "Corpus", tokenizer: "PreTrainedTokenizerBase") -> FloatArray:
    """[V] occurrences where the piece may be masked."""
    counts = np.zeros(vocabulary_size(tokenizer))
    for first in range(0, len(corpus), BLOCKS_AT_A_TIME):
        blocks = corpus.blocks(np.arange(first, min(first + BLOCKS_AT_A_TIME, len(corpus))))
        counts += np.bincount(blocks.input_ids[blocks.is_maskable].numpy(), minlength=len(counts))
    return counts


def guessed_counts(tokenizer: "PreTrainedTokenizerBase") -> FloatArray:
    """[V] ordinary pieces by rank: V / 1, V / 2, …; 0 for the others."""
    ordinary = Vocabulary.from_tokenizer(tokenizer).replacement_ids.numpy()
    counts = np.zeros(vocabulary_size(tokenizer))
    counts[ordinary] = len(ordinary) / np.arange(1, len(ordinary) + 1)
    return counts


def say_that_counts_are_guessed() -> None:
    _log.warning("no text to count words in was given (texts=…): the order of the vocabulary stands for frequency")


def vocabulary_size(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Ids that the tokenizer gives, from 0."""
    return int(max(tokenizer.get_vocab().values())) + 1
