"""Anchors: the content words of a domain that are frequent in its text and rare in general text.

The score of a word is its part of the Kullback-Leibler divergence of the domain from general text,

    p · ln(p / q),  p its share of the domain's words, q its share of general text.

Difference-Masking (Wilf et al. 2023) takes TF-ICF, p · ln(1 / q), of text without stop words. Where stop words stay in,
p decides and the first anchors are "the", "of" and "and"; p in the logarithm also leaves out what is frequent in both.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmg.data.corpus import Corpus
from nmg.data.cutting import cut_texts
from nmg.data.framing import SpecialTokens
from nmg.masking.base import number_units
from nmg.masking.counts import BLOCKS_AT_A_TIME, guessed_counts
from nmg.masking.function_words import is_function_word
from nmg.masking.idf import word_keys
from nmg.types import TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERAL_BLOCK = 510
"""tokens of a block that general text is cut into"""
COMMON_SHARE = 1e-3
"""a word that is more than this share of general text is a function word, in whatever language"""
LEAST_GENERAL_WORDS = 10_000
"""words of general text from which `COMMON_SHARE` is applied: in less text every word is a large share"""


@dataclass(frozen=True)
class CountedWord:
    """A word of a text, upper and lower case counted together."""

    text: str
    """in lower case"""
    count: int
    ids: tuple[int, ...]
    """word pieces of its most frequent spelling"""


def find_anchors(here: Iterable[CountedWord], general: Mapping[str, float], n: int) -> list[CountedWord]:
    """The `n` content words of the domain with the highest score above 0, the best first.

    Args:
        here: every word of the domain's text.
        general: word in lower case → its count in general text, real or guessed.
        n: anchors, at most.
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
    """Every word of the blocks, in the order of its first occurrence."""
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
    """The word that these pieces spell, in lower case."""
    text: str = tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(list(ids)))
    return text.strip().removeprefix("##").lower()


def blocks_of(corpus: Corpus) -> Iterator[TokenBlocks]:
    """All blocks of a corpus, some at a time."""
    for first in range(0, len(corpus), BLOCKS_AT_A_TIME):
        yield corpus.blocks(np.arange(first, min(first + BLOCKS_AT_A_TIME, len(corpus))))


def general_counts(texts: Iterable[str], tokenizer: "PreTrainedTokenizerBase") -> dict[str, float]:
    """Word in lower case → its count in general text. A part of the text at a time is in memory."""
    padding = SpecialTokens.of(tokenizer).padding
    parts = (Corpus("", [batch], padding) for batch in cut_texts(texts, tokenizer, GENERAL_BLOCK))
    words = count_words((blocks for part in parts for blocks in blocks_of(part)), tokenizer)
    return {word.text: float(word.count) for word in words}


def guessed_general_counts(tokenizer: "PreTrainedTokenizerBase") -> dict[str, float]:
    """Word in lower case → its count as `counts.guessed_counts` has it, for the words that are one piece."""
    counts = guessed_counts(tokenizer)
    words: dict[str, float] = {}
    for index in np.flatnonzero(counts).tolist():
        if not tokenizer.convert_ids_to_tokens(index).startswith("##"):
            word = text_of([index], tokenizer)
            words[word] = words.get(word, 0.0) + float(counts[index])
    return words
