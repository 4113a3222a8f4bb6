"""Anchors: content words that are frequent in text of the domain and rare in general text.

The score of a word is its term in the Kullback-Leibler divergence of the domain from general text:

    p · ln(p / q),  p: relative frequency of the word in the domain, q: relative frequency in general text.

Difference-Masking (Wilf et al. 2023) uses TF-ICF, p · ln(1 / q), on text without stop words. With stop words, p would
dominate that score, and the first anchors would be "the", "of" and "and". The p in the logarithm also excludes words
that are frequent in both.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmg.base.types import TokenBlocks
from nmg.data.corpus import Corpus
from nmg.data.cutting import cut_texts
from nmg.data.framing import SpecialTokens
from nmg.masking.base import number_units
from nmg.masking.counts import BLOCKS_AT_A_TIME, guessed_counts
from nmg.masking.function_words import is_function_word
from nmg.masking.idf import word_keys

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERAL_BLOCK = 510
"""Number of tokens in each block of general text."""
COMMON_SHARE = 1e-3
"""Relative frequency in general text above which a word of any language counts as a function word."""
LEAST_GENERAL_WORDS = 10_000
"""Minimum number of words of general text for `COMMON_SHARE`; in less text, every word is relatively frequent."""


@dataclass(frozen=True)
class CountedWord:
    """A word with its count; upper and lower case are counted together."""

    text: str
    """The word in lower case."""
    count: int
    """Number of occurrences."""
    ids: tuple[int, ...]
    """Token ids of the pieces of the word in its most frequent spelling."""


def find_anchors(here: Iterable[CountedWord], general: Mapping[str, float], n: int) -> list[CountedWord]:
    """Return up to `n` content words of the domain with the highest positive scores, best first.

    Args:
        here: all words in the text of the domain.
        general: maps words in lower case to their counts in general text, exact or estimated.
        n: maximum number of anchors.

    Returns:
        The anchors, best first; words with equal scores are in alphabetical order.
    """
    words = list(here)
    n_here = sum(word.count for word in words)
    n_general = sum(general.values())
    scores = {}
    for word in words:
        share, in_general = word.count / n_here, (1.0 + general.get(word.text, 0.0)) / (1.0 + n_general)
        is_common = n_general >= LEAST_GENERAL_WORDS and in_general > COMMON_SHARE
        if not is_common and not is_function_word(word.text) and share > in_general:
            scores[word] = share * np.log(share / in_general)
    return sorted(scores, key=lambda word: (-scores[word], word.text))[:n]


def count_words(batches: Iterable[TokenBlocks], tokenizer: "PreTrainedTokenizerBase") -> list[CountedWord]:
    """Count all words of the blocks. Words are in order of first occurrence."""
    times: dict[int, int] = {}
    ids_of: dict[int, tuple[int, ...]] = {}
    for blocks in batches:
        keys, rows, starts = word_keys(blocks)
        unit = number_units(blocks.word_index, blocks)[0].numpy()
        distinct, first, counts = np.unique(keys, return_index=True, return_counts=True)
        for key, place, count in zip(distinct.tolist(), first.tolist(), counts.tolist(), strict=True):
            times[key] = times.get(key, 0) + count
            if key not in ids_of:
                row = rows[place]
                is_word = unit[row] == unit[row, starts[place]]
                ids_of[key] = tuple(blocks.input_ids[row].numpy()[is_word].tolist())
    spellings: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
    for key, ids in ids_of.items():
        spellings.setdefault(text_of(ids, tokenizer), []).append((times[key], ids))
    return [
        CountedWord(text, sum(count for count, _ in found), max(found, key=lambda one: one[0])[1])
        for text, found in spellings.items()
    ]


def text_of(ids: Iterable[int], tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the word that the pieces with these token ids form, in lower case."""
    text: str = tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(list(ids)))
    return text.strip().removeprefix("##").lower()


def blocks_of(corpus: Corpus) -> Iterator[TokenBlocks]:
    """Yield all blocks of a corpus, `BLOCKS_AT_A_TIME` at a time."""
    for first in range(0, len(corpus), BLOCKS_AT_A_TIME):
        yield corpus.blocks(np.arange(first, min(first + BLOCKS_AT_A_TIME, len(corpus))))


def general_counts(texts: Iterable[str], tokenizer: "PreTrainedTokenizerBase") -> dict[str, float]:
    """Return the count of each word, in lower case, of general text. Only a part of the text is in memory at a time."""
    padding = SpecialTokens.of(tokenizer).padding
    parts = (Corpus("", [batch], padding) for batch in cut_texts(texts, tokenizer, GENERAL_BLOCK))
    words = count_words((blocks for part in parts for blocks in blocks_of(part)), tokenizer)
    return {word.text: float(word.count) for word in words}


def guessed_general_counts(tokenizer: "PreTrainedTokenizerBase") -> dict[str, float]:
    """Return estimated counts (`counts.guessed_counts`) of the words that are a single piece, in lower case."""
    counts = guessed_counts(tokenizer)
    words: dict[str, float] = {}
    for index in np.flatnonzero(counts).tolist():
        if not tokenizer.convert_ids_to_tokens(index).startswith("##"):
            word = text_of([index], tokenizer)
            words[word] = words.get(word, 0.0) + float(counts[index])
    return words
