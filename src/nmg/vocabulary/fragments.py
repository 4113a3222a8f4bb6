"""Counts the words of a corpus and the pieces that a tokenizer splits them into.

Only words as defined in `data.words` with at least one letter count; numbers and punctuation do not.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nmg.base.progress import Progress
from nmg.data.cutting import text_batches
from nmg.data.framing import SpecialTokens
from nmg.data.words import word_starts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids: TypeAlias = tuple[int, ...]
"""Token ids of the pieces of a word."""


@dataclass(frozen=True)
class WordCount:
    """A word of a corpus, as the tokenizer normalises it (lower case for uncased models)."""

    word: str
    forms: dict[Ids, int]
    """Pieces of the word → number of occurrences. In byte-level tokenizers, a word after a space has other pieces."""

    @property
    def count(self) -> int:
        """Number of occurrences in the corpus."""
        return sum(self.forms.values())

    @property
    def pieces(self) -> int:
        """Number of pieces of all occurrences together."""
        return sum(len(ids) * count for ids, count in self.forms.items())

    @property
    def excess(self) -> int:
        """Number of tokens that the corpus would save if each occurrence were one token."""
        return self.pieces - self.count

    @property
    def usual_form(self) -> Ids:
        """The most frequent of the `forms`."""
        return max(self.forms, key=lambda ids: (self.forms[ids], ids))


@dataclass(frozen=True)
class Fragmentation:
    """Statistics of how a tokenizer splits the words of a corpus."""

    n_texts: int
    n_tokens: int
    """Number of tokens of the corpus, without special tokens."""
    words: tuple[WordCount, ...]
    """All distinct words, in the order of their first occurrence."""
    unknown: int | None
    """Token id of the unknown token; None if the tokenizer has none."""

    @cached_property
    def n_words(self) -> int:
        """Number of words in the corpus."""
        return sum(word.count for word in self.words)

    @cached_property
    def pieces_per_word(self) -> float:
        """Mean number of pieces over all words of the corpus."""
        return sum(word.pieces for word in self.words) / max(self.n_words, 1)

    @cached_property
    def pieces_per_distinct_word(self) -> float:
        """Mean number of pieces over distinct words, each with the mean of its occurrences."""
        return sum(word.pieces / word.count for word in self.words) / max(len(self.words), 1)

    @cached_property
    def split_share(self) -> float:
        """Fraction of the words of the corpus that have more than one piece."""
        return self._share(lambda ids: len(ids) > 1)

    @cached_property
    def unknown_share(self) -> float:
        """Fraction of the words of the corpus that contain the unknown token."""
        return self._share(lambda ids: self.unknown in ids)

    def _share(self, is_so: Any) -> float:
        n = sum(count for word in self.words for ids, count in word.forms.items() if is_so(ids))
        return n / max(self.n_words, 1)

    def worst(self, n: int) -> list[WordCount]:
        """Return the split words with the largest `excess`, at most `n`; ties are in alphabetical order."""
        split = (word for word in self.words if word.excess)
        return sorted(split, key=lambda word: (-word.excess, word.word))[:n]


def count_fragments(
    texts: Collection[str], tokenizer: "PreTrainedTokenizerBase", progress: Progress | None = None
) -> Fragmentation:
    """Count the words and their pieces in one pass, with only a few texts and the distinct words in memory at a time.

    Args:
        texts: The texts of a corpus.
        tokenizer: A fast tokenizer with a padding token.
        progress: Called with the number of finished texts and the total; None for no progress.

    Returns:
        The counts.

    Raises:
        UserError: The tokenizer is not fast or has no padding token.
    """
    special = SpecialTokens.of(tokenizer)
    counts: Counter[tuple[str, Ids]] = Counter()
    n_tokens = n_texts = 0
    for some in text_batches(texts):
        for text, encoding in zip(some, encodings(tokenizer, some), strict=True):
            counts.update((word, ids) for word, ids in words_of(text, encoding, special) if has_letter(word))
            n_tokens += len(encoding.ids)
        n_texts += len(some)
        if progress is not None:
            progress(n_texts, len(texts))
    normalise = normaliser(tokenizer)
    forms: dict[str, Counter[Ids]] = defaultdict(Counter)
    for (word, ids), count in counts.items():
        forms[normalise(word)][ids] += count
    words = tuple(WordCount(word, dict(of_word)) for word, of_word in forms.items())
    return Fragmentation(n_texts, n_tokens, words, tokenizer.unk_token_id)


def count_tokens(texts: Iterable[str], tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the number of tokens of the texts, without the special tokens that start and end a block."""
    return sum(len(encoding.ids) for some in text_batches(texts) for encoding in encodings(tokenizer, some))


def encodings(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> Sequence[Any]:
    """Return the encoding of each text, without the special tokens that start and end a block."""
    found: Sequence[Any] = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    ).encodings
    return found


def words_of(text: str, encoding: Any, special: SpecialTokens) -> Iterator[tuple[str, Ids]]:
    """Yield each word of a text and the ids of its pieces. Special tokens in the text are left out.

    Args:
        text: The text.
        encoding: The encoding of the text.
        special: The special tokens of the tokenizer.

    Yields:
        The word as written in the text, and the ids of its pieces.
    """
    ids = encoding.ids
    if not ids:
        return
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    index = np.array([-1 if word is None else word for word in encoding.word_ids], dtype=np.int64)
    starts = np.flatnonzero(word_starts(text, index, offsets, special.only_spaces)).tolist()
    for first, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        if ids[first] not in special.unmaskable:
            yield text[offsets[first, 0] : offsets[first:end, 1].max()].strip(), tuple(ids[first:end])


def has_letter(word: str) -> bool:
    """Return whether a word contains a letter.

    >>> has_letter("p53"), has_letter("3.5")
    (True, False)
    """
    return any(map(str.isalpha, word))


def normaliser(tokenizer: "PreTrainedTokenizerBase") -> Any:
    """Return a function that normalises a word as the tokenizer does, e.g. to lower case."""
    found = tokenizer.backend_tokenizer.normalizer
    return (lambda word: word) if found is None else (lambda word: found.normalize_str(word).strip(" ▁"))
