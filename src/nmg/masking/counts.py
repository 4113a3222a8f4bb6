"""Frequencies of word pieces, counted in text of the domain or estimated from the order of the vocabulary.

Most vocabularies are sorted approximately by frequency, and the frequency of a piece is roughly inverse to its rank
(Zipf's law). Without text, 1 / rank therefore estimates the frequency of a piece up to a constant factor.

One part of a vocabulary often has a different order. WordPiece and byte-level BPE begin with a block of all single
characters, sorted by code point. In BERT's vocabulary, "the" would have rank 998, after characters that hardly occur.
The order within that block carries no information. Its ASCII characters therefore take the ranks after the first
`RANK_OF_CHARACTERS` pieces, and its other characters come last.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nmg.base.types import FloatArray
from nmg.data.framing import vocabulary_size
from nmg.masking.base import MaskingContext
from nmg.masking.corrupt import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

BLOCKS_AT_A_TIME = 256
"""Number of blocks that are counted in one step."""
LEAST_CHARACTERS = 16
"""Minimum number of leading single characters that counts as a block not sorted by frequency."""
RANK_OF_CHARACTERS = 10
"""Number of pieces that are ranked before the ASCII characters of that block."""

_log = logging.getLogger(__name__)


def piece_counts(ingredients: MaskingContext, masking: str) -> FloatArray:
    """Return float64 [V]: counts of all pieces in the corpus. Without a corpus, estimate them and log a warning."""
    if ingredients.corpus is None:
        say_that_counts_are_guessed(masking)
        return guessed_counts(ingredients.tokenizer)
    return counted(ingredients.corpus, ingredients.tokenizer)


def counted(corpus: "Corpus", tokenizer: "PreTrainedTokenizerBase") -> FloatArray:
    """Return float64 [V]: how often each piece occurs at a maskable position."""
    counts = np.zeros(vocabulary_size(tokenizer))
    for first in range(0, len(corpus), BLOCKS_AT_A_TIME):
        blocks = corpus.blocks(np.arange(first, min(first + BLOCKS_AT_A_TIME, len(corpus))))
        counts += np.bincount(blocks.input_ids[blocks.is_maskable].numpy(), minlength=len(counts))
    return counts


def guessed_counts(tokenizer: "PreTrainedTokenizerBase") -> FloatArray:
    """Return float64 [V]: R / rank for the R ordinary pieces; 0 for special tokens and placeholders."""
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
    """Return the length of the leading block of single characters; 0 if below `LEAST_CHARACTERS`."""
    n = next((n for n, token in enumerate(tokens) if len(token.removeprefix("##")) > 1), len(tokens))
    return n if n >= LEAST_CHARACTERS else 0


def say_that_counts_are_guessed(masking: str) -> None:
    """Log a warning that `masking` uses estimated counts."""
    _log.warning(
        "%s: there is no text to count words in, so word frequencies are estimated from the order of the vocabulary, "
        "which is inaccurate: pass texts, such as the training set (texts=…)",
        masking,
    )
