"""Groups the tokens of a corpus by properties of word and position, and counts the masked tokens of each group."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nmg.base.types import FloatArray, IntArray
from nmg.inspection.tags import UNTAGGED, Labels
from nmg.inspection.tokens import TokenTable

N_POSITIONS = 10
"""Number of equal parts of a block, for statistics by position in the text."""
FREQUENCY_BANDS = (1, 2, 4, 11, 31, 101, 301, 1001)
"""Minimum number of occurrences of the words of each frequency band; about three bands per factor of ten."""


@dataclass(frozen=True)
class Grouping:
    """An assignment of every token to one of G groups, each with at least one token."""

    title: str
    note: str
    names: tuple[str, ...]
    of_token: IntArray
    """int [N]: index into `names`."""

    @classmethod
    def of(cls, title: str, note: str, names: Sequence[str], of_token: IntArray) -> "Grouping":
        """Create a grouping without the groups that have no tokens; the order of the other groups is kept.

        Args:
            title: Heading of the grouping.
            note: Explanation below the heading.
            names: Names of all groups.
            of_token: int [N]: index of each token's group in `names`.

        Returns:
            The grouping.
        """
        counts = np.bincount(of_token, minlength=len(names))
        number = np.cumsum(counts > 0) - 1
        return cls(title, note, tuple(np.array(names, dtype=object)[counts > 0]), number[of_token])

    def counts(self) -> IntArray:
        """Return int64 [G]: number of tokens per group."""
        return np.bincount(self.of_token, minlength=len(self.names))

    def masked(self, inclusion: FloatArray) -> FloatArray:
        """Return float64 [G]: expected number of masked tokens per group.

        `inclusion`: float [N], the probability that each token is masked.
        """
        masked = np.bincount(self.of_token, weights=inclusion, minlength=len(self.names))
        return masked.astype(np.float64)


def by_label(title: str, note: str, labels: Labels, table: TokenTable) -> Grouping:
    """Group tokens by the label of their word.

    Args:
        title: Heading of the grouping.
        note: Explanation below the heading.
        labels: One label per word of the table.
        table: The tokens.

    Returns:
        The groups by descending frequency; the group of words without a label is last.
    """
    of_token = labels.of_word[table.word]
    counts = np.bincount(of_token, minlength=len(labels.names))
    has_label = np.array([name != UNTAGGED for name in labels.names])
    order = np.lexsort((-counts, ~has_label))
    names = [labels.names[label] if has_label[label] else "none" for label in order]
    return Grouping.of(title, note, names, np.argsort(order)[of_token])


def by_frequency(word_counts: IntArray, table: TokenTable) -> Grouping:
    """Group tokens by the corpus frequency of their word; `word_counts`: int [W], one count per word of the table."""
    band = np.searchsorted(FREQUENCY_BANDS, word_counts, side="right") - 1
    ends = [f"–{above - 1:,}" if above - 1 > low else "" for low, above in pairwise(FREQUENCY_BANDS)]
    names = [f"{low:,}{end} times" for low, end in zip(FREQUENCY_BANDS, [*ends, " or more"], strict=True)]
    names[0] = "once"
    note = "Number of times that the word occurs in these texts, ignoring case."
    return Grouping.of("Frequency of the word", note, names, band[table.word])


def by_position(table: TokenTable) -> Grouping:
    """Group tokens by their position in the block, in ten equal parts."""
    part = table.place * N_POSITIONS // np.maximum(table.sizes[table.block], 1)
    names = [f"{100 * i // N_POSITIONS}–{100 * (i + 1) // N_POSITIONS} %" for i in range(N_POSITIONS)]
    return Grouping.of("Position in the text", "From the first token of a text to its last.", names, part)


def by_piece(table: TokenTable) -> Grouping:
    """Group tokens into whole words, first pieces and later pieces of words."""
    is_whole = table.pieces[table.word] == 1
    kind = np.where(is_whole, 0, np.where(table.starts_word, 1, 2))
    names = ("whole word", "first piece of a word", "later piece of a word")
    return Grouping.of("Whole words and pieces", "Words as the model's tokenizer splits them.", names, kind)


FORMS = ("lower-case word", "Capitalised word", "UPPER-CASE WORD", "with a digit", "punctuation or symbol")
"""Names of the groups of `by_form`."""


def form_of(word: str) -> int:
    """Return the index of the word's form in `FORMS`. Letters of scripts without case count as lower case."""
    if not any(character.isalnum() for character in word):
        return 4
    if any(character.isdigit() for character in word):
        return 3
    if len(word) > 1 and word.isupper():
        return 2
    return 1 if word[0].isupper() else 0


def by_form(words: Sequence[str], table: TokenTable) -> Grouping:
    """Group tokens by the form of their word; `words` has the W words with their original case."""
    known = {word: form_of(word) for word in set(words)}
    of_word = np.array([known[word] for word in words], dtype=np.int64)
    return Grouping.of("Form of the word", "Letters as written in the text.", FORMS, of_word[table.word])
