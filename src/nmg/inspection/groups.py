"""Ways to sort the tokens of a corpus into groups, and the share of each group among what a masking masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nmg.inspection.tags import UNTAGGED, Labels
from nmg.inspection.tokens import TokenTable
from nmg.types import FloatArray, IntArray

N_POSITIONS = 10
"""parts that a block is cut into, to see where in a text tokens are masked"""
FREQUENCY_BANDS = (1, 2, 4, 11, 31, 101, 301, 1001)
"""lowest number of occurrences of each band of words: about three bands for every factor of ten"""


@dataclass(frozen=True)
class Grouping:
    """Every token belongs to one of G groups; groups of no token are left out."""

    title: str
    note: str
    names: tuple[str, ...]
    of_token: IntArray
    """[N] index into `names`"""

    @classmethod
    def of(cls, title: str, note: str, names: Sequence[str], of_token: IntArray) -> "Grouping":
        """Drops the groups of no token, and keeps the order of the others."""
        counts = np.bincount(of_token, minlength=len(names))
        number = np.cumsum(counts > 0) - 1
        return cls(title, note, tuple(np.array(names, dtype=object)[counts > 0]), number[of_token])

    def counts(self) -> IntArray:
        """[G] tokens of each group"""
        return np.bincount(self.of_token, minlength=len(self.names))

    def masked(self, inclusion: FloatArray) -> FloatArray:
        """[G] tokens of each group that are masked in the mean, for the probability [N] that a token is."""
        masked = np.bincount(self.of_token, weights=inclusion, minlength=len(self.names))
        return masked.astype(np.float64)


def by_label(title: str, note: str, labels: Labels, table: TokenTable) -> Grouping:
    """Most frequent label first; words without one last."""
    of_token = labels.of_word[table.word]
    counts = np.bincount(of_token, minlength=len(labels.names))
    has_label = np.array([name != UNTAGGED for name in labels.names])
    order = np.lexsort((-counts, ~has_label))
    names = [labels.names[label] if has_label[label] else "none" for label in order]
    return Grouping.of(title, note, names, np.argsort(order)[of_token])


def by_frequency(word_counts: IntArray, table: TokenTable) -> Grouping:
    """Tokens by how often their word occurs in the corpus, `word_counts` [W] for each word of the table."""
    band = np.searchsorted(FREQUENCY_BANDS, word_counts, side="right") - 1
    ends = [f"–{above - 1:,}" if above - 1 > low else "" for low, above in pairwise(FREQUENCY_BANDS)]
    names = [f"{low:,}{end} times" for low, end in zip(FREQUENCY_BANDS, [*ends, " or more"], strict=True)]
    names[0] = "once"
    note = "How often the word occurs in these texts, upper and lower case alike."
    return Grouping.of("Frequency of the word", note, names, band[table.word])


def by_position(table: TokenTable) -> Grouping:
    """Tokens by tenths of their block."""
    part = table.place * N_POSITIONS // np.maximum(table.sizes[table.block], 1)
    names = [f"{100 * i // N_POSITIONS}–{100 * (i + 1) // N_POSITIONS} %" for i in range(N_POSITIONS)]
    return Grouping.of("Position in the text", "From the first token of a text to its last.", names, part)


def by_piece(table: TokenTable) -> Grouping:
    """Tokens that are words of their own, and pieces of longer words."""
    is_whole = table.pieces[table.word] == 1
    kind = np.where(is_whole, 0, np.where(table.starts_word, 1, 2))
    names = ("whole word", "first piece of a word", "later piece of a word")
    return Grouping.of("Whole words and pieces", "Words as the model's tokenizer cuts them.", names, kind)


FORMS = ("lower-case word", "Capitalised word", "UPPER-CASE WORD", "with a digit", "punctuation or symbol")


def form_of(word: str) -> int:
    """Index into `FORMS`. Letters of scripts without case count as lower case."""
    if not any(character.isalnum() for character in word):
        return 4
    if any(character.isdigit() for character in word):
        return 3
    if len(word) > 1 and word.isupper():
        return 2
    return 1 if word[0].isupper() else 0


def by_form(words: Sequence[str], table: TokenTable) -> Grouping:
    """Tokens by the letters of their word as it stands in the text, `words` [W]."""
    known = {word: form_of(word) for word in set(words)}
    of_word = np.array([known[word] for word in words], dtype=np.int64)
    return Grouping.of("Form of the word", "Letters as they stand in the text.", FORMS, of_word[table.word])
