"""Search for phrases (word n-grams) in blocks, from left to right; the longest phrase at a position wins.

A phrase is found by the word pieces of its words (`masking.idf.word_keys`). Two words are therefore the same if the
tokenizer splits them into the same pieces.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmg.base.types import NO_POSITION, BoolArray, FloatArray, IntArray, TokenBlocks
from nmg.data.cutting import cut_texts
from nmg.masking.base import number_units
from nmg.masking.idf import Keys, word_keys

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_log = logging.getLogger(__name__)

_TEXT_LENGTH = 1 << 20
"""Maximum number of tokens in a phrase, so large that no phrase is cut."""


@dataclass(frozen=True)
class Words:
    """The W words of a batch, in reading order."""

    keys: Keys
    """uint64 [W]: hash of each word."""
    rows: IntArray
    """int64 [W]: row of the block that contains the word."""
    number: IntArray
    """int64 [W]: number of the word in its block, from `number_units`."""
    follows: BoolArray
    """bool [W]: True if the previous word is directly before this one in the same block."""
    starts: IntArray
    """int64 [W]: position of the first token of each word."""

    @classmethod
    def of(cls, blocks: TokenBlocks) -> "Words":
        """Return all words of `blocks`."""
        keys, rows, starts = word_keys(blocks)
        unit, _ = number_units(blocks.word_index, blocks)
        before = torch.nn.functional.pad(unit, (1, 0), value=NO_POSITION)[:, :-1].cpu().numpy()
        number = unit.cpu().numpy()[rows, starts]
        return cls(keys, rows, number, (before[rows, starts] >= 0) & (number > 0), starts)

    def cut_at(self, is_border: npt.NDArray[np.bool_]) -> "Words":
        """Return a copy in which no word directly follows another if one of the two is a border (bool [W])."""
        return replace(self, follows=self.follows & ~is_border & ~np.append(False, is_border[:-1]))

    def ngrams(self, longest: int) -> list[tuple[Keys, BoolArray]]:
        """Return the n-grams that begin at each word, for n = 1 … `longest`.

        Returns:
            For each n: the keys, uint64 [W], and bool [W], True if n consecutive words begin there.
        """
        keys, is_whole = self.keys, np.ones(len(self.keys), dtype=np.bool_)
        found = [(keys, is_whole)]
        for n in range(2, longest + 1):
            keys = joined(keys, _shifted(self.keys, n - 1))
            is_whole = is_whole & _shifted(self.follows, n - 1)
            found.append((keys, is_whole))
        return found


Value = TypeVar("Value", bound=np.generic)


def _shifted(values: npt.NDArray[Value], by: int) -> npt.NDArray[Value]:
    """Return `values` shifted left by `by` places, with 0 or False after the end."""
    shifted = np.zeros_like(values)
    shifted[: max(len(values) - by, 0)] = values[by:]
    return shifted


def look_up(known: Keys, keys: Keys) -> tuple[IntArray, BoolArray]:
    """Return the index of each key [W] in `known` (ascending), and whether `known` contains it (bool [W])."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.bool_)
    at = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return at, known[at] == keys


def joined(first: Keys, second: Keys) -> Keys:
    """Combine the keys of n-grams and of the words after them into the keys of (n + 1)-grams. Order matters."""
    mixed = first * np.uint64(0x9E3779B97F4A7C15) + second
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True)
class Phrases:
    """Phrases, grouped by their number of words, each with a value."""

    keys: Sequence[Keys]
    """For n = 1, 2, …: keys of the phrases of n words, uint64 [P], ascending."""
    values: Sequence[FloatArray]
    """For n = 1, 2, …: values of the phrases of n words, float64 [P]."""

    @classmethod
    def of(cls, values: Mapping[str, float], tokenizer: "PreTrainedTokenizerBase") -> "Phrases":
        """Return phrases from text, with their spellings in lower case, in capitals and with a first capital.

        Each spelling is stored with and without a space before it. A spelling given in `values` keeps its given value,
        even if another phrase has the same derived spelling. If several phrases derive a spelling that is not given,
        the largest value applies. It also applies, with a warning, if several given phrases have the same
        tokens.
        """
        given: dict[tuple[int, int], float] = {}
        derived: dict[tuple[int, int], float] = {}
        spelled = [(form, text, is_given) for text in values for form, is_given in _spellings(text)]
        doubtful: dict[str, None] = {}
        for (_, text, is_given), key in zip(
            spelled, _keys_of([form for form, _, _ in spelled], tokenizer), strict=True
        ):
            if key[0]:
                table = given if is_given else derived
                if is_given and table.get(key, values[text]) != values[text]:
                    doubtful[text] = None
                table[key] = max(table.get(key, values[text]), values[text])
        if doubtful:
            _log.warning(
                "%d words, such as '%s', have several values because the tokenizer splits them into the same tokens as "
                "other words of the list: the largest value is used",
                *(len(doubtful), next(iter(doubtful))),
            )
        found: dict[int, dict[int, float]] = {}
        for (n, ngram), value in (derived | given).items():
            found.setdefault(n, {})[ngram] = value
        return cls.of_tables([found.get(n, {}) for n in range(1, max(found, default=0) + 1)])

    @classmethod
    def of_tables(cls, tables: Sequence[Mapping[int, float]]) -> "Phrases":
        """Return phrases from tables; table number n - 1 maps the keys of phrases of n words to their values."""
        keys, values = [], []
        for table in tables:
            names = np.array(list(table), dtype=np.uint64)
            order = np.argsort(names)
            keys.append(names[order])
            values.append(np.array(list(table.values()), dtype=np.float64)[order])
        return cls(keys, values)

    def find(self, blocks: TokenBlocks, otherwise: float) -> tuple[Tensor, Tensor]:
        """Divide each block into phrases and the words between phrases.

        Returns:
            int64 [B, T]: a number that identifies the token's phrase or word; -1 if the token belongs to no word.
            float64 [B, T]: the value of the phrase; `otherwise` for other tokens.
        """
        words = Words.of(blocks)
        length = np.ones(len(words.keys), dtype=np.int64)
        value = np.full(len(words.keys), otherwise)
        ngrams = words.ngrams(len(self.keys))
        for n, (known, values) in enumerate(zip(self.keys, self.values, strict=True), start=1):
            keys, is_whole = ngrams[n - 1]
            at, is_known = look_up(known, keys)
            is_found = is_whole & is_known
            length[is_found], value[is_found] = n, values[at[is_found]]
        segment, value = _segments(length, value)
        return self._spread(blocks, words, segment, -1), self._spread(blocks, words, value, otherwise)

    def _spread(self, blocks: TokenBlocks, words: Words, of_word: npt.NDArray[np.generic], otherwise: float) -> Tensor:
        """Copy the value of each word [W] to its tokens [B, T].

        Args:
            blocks: B blocks of T tokens.
            words: the W words of `blocks`.
            of_word: [W], the value of each word.
            otherwise: value of tokens that belong to no word.

        Returns:
            [B, T], with the dtype of `of_word`.
        """
        unit, _ = number_units(blocks.word_index, blocks)
        width = int(words.number.max(initial=0)) + 2
        table = np.full((len(blocks), width), otherwise, dtype=of_word.dtype)
        table[words.rows, words.number + 1] = of_word
        return torch.from_numpy(np.take_along_axis(table, unit.cpu().numpy() + 1, axis=1)).to(unit.device)


def _segments(length: IntArray, value: FloatArray) -> tuple[IntArray, FloatArray]:
    """Select phrases from left to right. Return the number [W] and the value [W] of each word's phrase.

    Args:
        length: [W] number of words in the longest phrase that begins at each word; 1 if there is none.
        value: [W] value of that phrase.
    """
    segment, taken = np.arange(len(length)), value.copy()
    free = 0
    for start in np.flatnonzero(length > 1).tolist():
        if start >= free:
            free = start + int(length[start])
            segment[start:free], taken[start:free] = start, value[start]
    return segment, taken


def _spellings(text: str) -> list[tuple[str, bool]]:
    """Return all spellings of a phrase, with and without a leading space, and whether each one was given."""
    text = text.strip()
    forms = dict.fromkeys([text, text.lower(), text.upper(), text[:1].upper() + text[1:]])
    return [(before + form, form == text) for form in forms for before in (" ", "")]


def _keys_of(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase") -> Iterable[tuple[int, int]]:
    """Return (number of words, key of its phrase) for each text; (0, 0) for a text without words."""
    found = [(0, 0)] * len(texts)
    batches = cut_texts(texts, tokenizer, _TEXT_LENGTH)
    for columns, number in ((batch, row) for batch in batches for row in range(batch.num_rows)):
        ids = torch.tensor(columns["input_ids"][number].as_py())[None]
        word = torch.tensor(columns["word_index"][number].as_py())[None]
        index = torch.zeros(1, dtype=torch.int64)
        words = Words.of(TokenBlocks(index, index, ids, torch.ones_like(ids, dtype=torch.bool), word >= 0, word))
        n = len(words.keys)
        if n:
            found[columns["context_id"][number].as_py()] = n, int(words.ngrams(n)[-1][0][0])
    return found
