"""Recovery of words and text from token ids, for data that contains only ids.

A run of tokens is decoded and tokenised again. If this gives the same tokens, the tokenizer defines words and
characters, as in a corpus. It nearly always does, even for a word that was cut in two. If the tokens differ
(e.g. because the run begins inside a word), the marks of word pieces ("##", "Ġ" and "▁") define the words. Each
punctuation token is then a separate word.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from nmg.base.errors import UserError
from nmg.base.types import NO_POSITION, BoolArray, IntArray
from nmg.data.cutting import cut_texts
from nmg.data.framing import SpecialTokens

_UNCUT = 1 << 30
"""Maximum number of tokens in a block, so large that nothing is cut."""


@dataclass(frozen=True)
class Recovered:
    """The words and the text of a row of T tokens."""

    word_index: IntArray
    """int64 [T]: number of the word of each token, as in `TokenBlocks`."""
    text: str
    """The decoded text."""
    offsets: IntArray
    """int64 [T, 2]: start and end of each token in `text`; (0, 0) for special tokens."""

    @property
    def word_starts(self) -> IntArray:
        """int64 [words]: index in `text` of the first character of each word."""
        is_start = np.diff(self.word_index, prepend=NO_POSITION) > 0
        starts: IntArray = self.offsets[is_start, 0]
        return starts


class Recovery:
    """Recovers the words and the text of rows, for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.special = SpecialTokens.of(tokenizer)
        self._is_special = np.zeros(max(*tokenizer.get_vocab().values(), *self.special.unmaskable) + 1, dtype=np.bool_)
        self._is_special[list(self.special.unmaskable)] = True

    def is_special(self, ids: IntArray) -> BoolArray:
        """Return True for each special token; `ids` may have any shape. Raises UserError for an unknown id."""
        if ids.size and not 0 <= ids.min() <= ids.max() < len(self._is_special):
            unknown = ids.max() if ids.min() >= 0 else ids.min()
            raise UserError(f"input_ids: the tokenizer has no token with the id {unknown}: pass the model's tokenizer")
        found: BoolArray = self._is_special[ids]
        return found

    def rows(self, rows: Sequence[IntArray]) -> list[Recovered]:
        """Return the words and the text of each row of token ids (int64 [T]).

        Rows may contain special tokens but no padding.
        """
        runs = [_runs(~self.is_special(row)) for row in rows]
        pieces = iter(
            self._runs([row[first:last] for row, ends in zip(rows, runs, strict=True) for first, last in ends])
        )
        return [
            _joined(len(row), [(first, next(pieces)) for first, _ in ends])
            for row, ends in zip(rows, runs, strict=True)
        ]

    def _runs(self, runs: Sequence[IntArray]) -> list[Recovered]:
        """Recover the words and text of runs of tokens, int64 [T] each, that contain no special tokens."""
        if not runs:
            return []
        texts = [self._decoded(run) for run in runs]
        again: list[Recovered | None] = [None] * len(runs)
        inner = slice(len(self.special.prefix), -len(self.special.suffix) or None)
        batches = cut_texts(texts, self._tokenizer, _UNCUT)
        for columns, number in ((batch, row) for batch in batches for row in range(batch.num_rows)):
            ids, words, starts, ends = (
                columns[name][number].values.to_numpy()[inner] for name in ("input_ids", "word_index", "starts", "ends")
            )
            context = columns["context_id"][number].as_py()
            if np.array_equal(ids, runs[context]):
                offsets = np.stack([starts, ends], axis=1).astype(np.int64)
                again[context] = Recovered(words.astype(np.int64), columns["text"][number].as_py(), offsets)
        return [found or self._by_marks(run) for run, found in zip(runs, again, strict=True)]

    def _decoded(self, ids: IntArray) -> str:
        """Return the text of a run of tokens, with its spaces unchanged."""
        text = self._tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False)
        return text if isinstance(text, str) else "".join(text)

    def _by_marks(self, ids: IntArray) -> Recovered:
        """Recover a run from the marks of its word pieces."""
        words: list[int] = []
        spans: list[tuple[int, int]] = []
        text = ""
        was_punctuation = True
        for number, token in enumerate(self._tokenizer.convert_ids_to_tokens(ids.tolist())):
            shown, begins = self._marks.read(token)
            is_punctuation = shown != "" and all(unicodedata.category(character)[0] in "PS" for character in shown)
            begins = begins or number == 0 or is_punctuation != was_punctuation or is_punctuation
            was_punctuation = is_punctuation
            text += " " if begins and number else ""
            words.append(words[-1] + begins if words else 0)
            spans.append((len(text), len(text) + len(shown)))
            text += shown
        return Recovered(np.array(words, np.int64), text, np.array(spans, np.int64).reshape(-1, 2))

    @cached_property
    def _marks(self) -> "_Marks":
        """The marks of word pieces in the tokenizer's vocabulary."""
        vocabulary = self._tokenizer.get_vocab()
        of_starts = next((mark for mark in ("▁", "Ġ") if any(token.startswith(mark) for token in vocabulary)), "")
        return _Marks(of_starts, "" if of_starts else "##", self._tokenizer)


@dataclass(frozen=True)
class _Marks:
    """The marks that show whether a word piece begins a word."""

    of_starts: str
    """Prefix of the first piece of a word; empty if the vocabulary marks the other pieces instead."""
    of_others: str
    """Prefix of the other pieces of a word; empty if the vocabulary marks the first piece."""
    tokenizer: PreTrainedTokenizerBase

    def read(self, token: str) -> tuple[str, bool]:
        """Return the piece as text, and whether it begins a word."""
        if self.of_starts:
            return self.tokenizer.convert_tokens_to_string([token]).strip(), token.startswith(self.of_starts)
        return token.removeprefix(self.of_others), not token.startswith(self.of_others)


def _runs(is_inside: BoolArray) -> list[tuple[int, int]]:
    """Return the start and the exclusive end of each run of True in `is_inside`, bool [T]."""
    flags = np.zeros(len(is_inside) + 2, dtype=np.int8)
    flags[1:-1] = is_inside
    edges = np.flatnonzero(flags[1:] != flags[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _joined(length: int, pieces: Sequence[tuple[int, Recovered]]) -> Recovered:
    """Join runs, given with their start positions, into one row; the text of each run is a separate line."""
    word_index = np.full(length, NO_POSITION, dtype=np.int64)
    offsets = np.zeros((length, 2), dtype=np.int64)
    text, n_words = "", 0
    for first, piece in pieces:
        place = slice(first, first + len(piece.word_index))
        is_word = piece.word_index != NO_POSITION
        word_index[place] = np.where(is_word, piece.word_index + n_words, NO_POSITION)
        text += "\n" if text else ""
        offsets[place] = np.where(is_word[:, None], piece.offsets + len(text), 0)
        text += piece.text
        n_words += int(piece.word_index.max(initial=-1)) + 1
    return Recovered(word_index, text, offsets)
