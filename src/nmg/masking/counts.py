"""How often word pieces occur: counted in text of the domain, or guessed from the order of the vocabulary.

Vocabularies are built in order of frequency, or nearly so, and a piece's frequency is about inverse to its rank (Zipf's
law). So if there is no text to count in, 1 / rank stands for the share of a piece, up to a factor.

One part of a vocabulary is often in another order: WordPiece and byte-level BPE begin with a block of all single
characters, by code point. In BERT's vocabulary "the" would have rank 998, after signs that hardly occur. A place in
that block says nothing, so its ASCII characters take the ranks after the first `RANK_OF_CHARACTERS` pieces, and the
others come last.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nmg.data.framing import vocabulary_size
from nmg.masking.base import Ingredients
from nmg.masking.corrupt import Vocabulary
from nmg.types import FloatArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

BLOCKS_AT_A_TIME = 256
LEAST_CHARACTERS = 16
"""single characters at the start of a vocabulary from which they are a block that is not in order of frequency"""
RANK_OF_CHARACTERS = 10
"""pieces that are ranked before the ASCII characters of that block"""

_log = logging.getLogger(__name__)


def piece_counts(ingredients: Ingredients, masking: str) -> FloatArray:
    """[V] of every piece in the corpus, or the guess, with a warning, if there is no corpus."""
    if ingredients.corpus is None:
        say_that_counts_are_guessed(masking)
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
    tokens = tokenizer.convert_ids_to_tokens(ordinary.tolist())
    n_characters = _leading_characters(tokens)
    is_ascii = np.array([token.removeprefix("##").isascii() for token in tokens[:n_characters]], dtype=np.bool_)
    characters, others = ordinary[:n_characters], ordinary[n_characters:]
    first, later = others[:RANK_OF_CHARACTERS], others[RANK_OF_CHARACTERS:]
    ranked = np.concatenate([first, characters[is_ascii], later, characters[~is_ascii]])
    counts = np.zeros(vocabulary_size(tokenizer))
    counts[ranked] = len(ranked) / np.arange(1, len(ranked) + 1)
    return counts


def _leading_characters(tokens: Sequence[str]) -> int:
    """How many of the first `tokens` are a block of single characters; 0 for a few, as by chance."""
    n = next((n for n, token in enumerate(tokens) if len(token.removeprefix("##")) > 1), len(tokens))
    return n if n >= LEAST_CHARACTERS else 0


def say_that_counts_are_guessed(masking: str) -> None:
    _log.warning(
        "%s: no text to count words in was given (texts=…), so the order of the vocabulary stands for frequency. That "
        "is a poor guess: give texts, such as the training set",
        masking,
    )
