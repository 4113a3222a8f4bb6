"""Reads the words to add to a vocabulary from a file, or chooses those that save the most tokens.

Choosing whole words of the domain by how much the vocabulary splits them is the idea of AVocaDo (Hong et al. 2021,
arXiv 2110.13434).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nmg.base.errors import bad_input, shown
from nmg.data.formats.reading import read_raw_lines
from nmg.data.framing import SpecialTokens
from nmg.data.words import is_unspaced
from nmg.vocabulary.fragments import Fragmentation, WordCount, normaliser
from nmg.vocabulary.tokenizer import can_add_unknown, pieces_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIN_COUNT = 5
"""Minimum number of occurrences of a chosen word."""
AT_ONCE = 256
"""Number of candidates that are tokenised at once."""


@dataclass(frozen=True)
class Proposal:
    """A proposed word, and what adding it to the vocabulary saves."""

    word: str
    count: int
    """Number of occurrences that would become one token."""
    saved: int
    """Number of tokens that the corpus would save."""


def choose_words(
    fragmentation: Fragmentation, tokenizer: "PreTrainedTokenizerBase", n: int, min_count: int = MIN_COUNT
) -> list[Proposal]:
    """Choose the words that save the most tokens.

    Candidates consist of letters, occur at least `min_count` times after a space, and contain no unknown piece. Words
    of scripts without spaces are left out, because their tokens count as words.

    Args:
        fragmentation: The words of the corpus.
        tokenizer: The tokenizer that split the words.
        n: Maximum number of chosen words.
        min_count: Minimum number of occurrences.

    Returns:
        At most `n` words in the order of decreasing `saved`; ties are in alphabetical order.
    """
    chosen: list[Proposal] = []
    for proposal in _candidates(fragmentation, tokenizer, min_count):
        if len(chosen) == n:
            break
        chosen.append(proposal)
    return chosen


def _candidates(
    fragmentation: Fragmentation, tokenizer: "PreTrainedTokenizerBase", min_count: int
) -> Iterator[Proposal]:
    """Yield the candidates for `choose_words`, in the order of its result."""
    forms = [
        (-count * (len(ids) - 1), word.word, ids, count)
        for word in fragmentation.words
        if _is_plain(word)
        for ids, count in word.forms.items()
        if len(ids) > 1 and count >= min_count and fragmentation.unknown not in ids
    ]
    forms.sort()
    for first in range(0, len(forms), AT_ONCE):
        some = forms[first : first + AT_ONCE]
        for (saved, word, ids, count), found in zip(
            some, pieces_of(tokenizer, [form[1] for form in some]), strict=True
        ):
            if [of_word for _, of_word in found] == [ids]:  # the form after a space
                yield Proposal(word, count, -saved)


def _is_plain(word: WordCount) -> bool:
    """Return whether a word consists of letters of a script that separates words by spaces."""
    return word.word.isalpha() and not is_unspaced(word.word).any()


@dataclass(frozen=True)
class WordList:
    """The words of a file that can be added."""

    words: tuple[str, ...]
    """Distinct words, normalised, that the vocabulary splits."""
    known: int
    """Number of words that are already one token."""
    repeated: int
    """Number of repetitions of words, including words that the tokenizer does not distinguish from another."""
    blank: int
    """Number of blank lines."""

    def left_out(self) -> str:
        """Return how many lines are not added and why, as the end of a sentence; empty if all lines are added.

        >>> WordList((), known=2, repeated=0, blank=1).left_out()
        '2 already in the vocabulary, 1 blank lines'
        """
        names = {"already in the vocabulary": self.known, "duplicates": self.repeated, "blank lines": self.blank}
        return ", ".join(f"{count} {name}" for name, count in names.items() if count)


def read_word_list(path: Path) -> list[tuple[int, str]]:
    """Read a file with one word per line, and return (line number, word) of each line; the word of a blank line is "".

    Raises UserError if the file cannot be read, is not UTF-8 or contains no word.
    """
    return [(number, line.strip()) for number, line in read_raw_lines(path)]


def check_word_list(path: Path, lines: Iterable[tuple[int, str]], tokenizer: "PreTrainedTokenizerBase") -> WordList:
    """Select the words that can be added to a tokenizer.

    Args:
        path: The file of the words, for messages.
        lines: The lines of the file, from `read_word_list`.
        tokenizer: The tokenizer to add the words to.

    Returns:
        The words to add, and the numbers of lines left out.

    Raises:
        UserError: A line is not exactly one word of the tokenizer; the message names the line.
    """
    lines, normalise = list(lines), normaliser(tokenizer)
    given = [(number, word) for number, word in lines if word]
    special = SpecialTokens.of(tokenizer)
    n_known = 0
    words: dict[str, None] = {}
    normalised = [normalise(word) for _, word in given]
    for (number, word), read, found in zip(given, normalised, pieces_of(tokenizer, normalised), strict=True):
        if len(found) != 1 or any(one in special.unmaskable for one in found[0][1]):
            parts = ", ".join(shown(part) for part, _ in found) or "nothing"
            problem = f"{shown(word)} is not one word: the tokenizer reads {parts}. Give one word per line."
            raise bad_input(path, problem, line=number)
        if tokenizer.unk_token_id in found[0][1] and not can_add_unknown(tokenizer):
            raise bad_input(path, f"{shown(word)} has characters that the tokenizer does not know", line=number)
        if len(found[0][1]) == 1 and found[0][1][0] != tokenizer.unk_token_id:
            n_known += 1
        else:
            words[read] = None
    return WordList(tuple(words), n_known, len(given) - n_known - len(words), len(lines) - len(given))
