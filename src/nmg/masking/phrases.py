"""Runs of words that are looked for in blocks: n-grams by key, longest first, left to right.

A phrase is found by the word pieces of its words (`masking.idf.word_keys`), so what counts as the same word is what the
tokenizer writes alike.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmg.data.cutting import cut_texts
from nmg.masking.base import number_units
from nmg.masking.idf import Keys, word_keys
from nmg.types import NO_POSITION, BoolArray, FloatArray, IntArray, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_log = logging.getLogger(__name__)

_TEXT_LENGTH = 1 << 20
"""tokens of a phrase, at most: it is not cut"""


@dataclass(frozen=True)
class Words:
    """All words of a batch, in reading order: W words."""

    keys: Keys
    """[W]"""
    rows: IntArray
    """[W] block of each"""
    number: IntArray
    """[W] number of the word in its block, as `number_units` counts"""
    follows: BoolArray
    """[W] True where the word before stands in the same block with nothing in between"""
    starts: IntArray
    """[W] position of the first token of each"""

    @classmethod
    def of(cls, blocks: TokenBlocks) -> "Words":
        keys, rows, starts = word_keys(blocks)
        unit, _ = number_units(blocks.word_index, blocks)
        before = torch.nn.functional.pad(unit, (1, 0), value=NO_POSITION)[:, :-1].cpu().numpy()
        number = unit.cpu().numpy()[rows, starts]
        return cls(keys, rows, number, (before[rows, starts] >= 0) & (number > 0), starts)

    def cut_at(self, is_border: npt.NDArray[np.bool_]) -> "Words":
        """The same words, no two of which follow each other if one of them is a border, for `is_border` bool [W]."""
        return replace(self, follows=self.follows & ~is_border & ~np.append(False, is_border[:-1]))

    def ngrams(self, longest: int) -> list[tuple[Keys, BoolArray]]:
        """For n = 1 … longest: the key of the n words from each word on, [W], and whether there are n, [W]."""
        keys, is_whole = self.keys, np.ones(len(self.keys), dtype=np.bool_)
        found = [(keys, is_whole)]
        for n in range(2, longest + 1):
            keys = joined(keys, _shifted(self.keys, n - 1))
            is_whole = is_whole & _shifted(self.follows, n - 1)
            found.append((keys, is_whole))
        return found


Value = TypeVar("Value", bound=np.generic)


def _shifted(values: npt.NDArray[Value], by: int) -> npt.NDArray[Value]:
    """The value `by` places on; 0 or False behind the end."""
    shifted = np.zeros_like(values)
    shifted[: max(len(values) - by, 0)] = values[by:]
    return shifted


def look_up(known: Keys, keys: Keys) -> tuple[IntArray, BoolArray]:
    """Where each of `keys` [W] stands in `known` (ascending), and whether it does."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.bool_)
    at = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return at, known[at] == keys


def joined(first: Keys, second: Keys) -> Keys:
    """Keys of a run and of the word behind it → keys of the longer run; the order counts."""
    mixed = first * np.uint64(0x9E3779B97F4A7C15) + second
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True)
class Phrases:
    """Phrases by length, each with a value."""

    keys: Sequence[Keys]
    """for n = 1, 2, …: [P] ascending keys of the phrases of n words"""
    values: Sequence[FloatArray]
    """[P] of each"""

    @classmethod
    def of(cls, values: Mapping[str, float], tokenizer: "PreTrainedTokenizerBase") -> "Phrases":
        """From text: as it is written, in lower case, in capitals, and with a first capital, also after a space.

        A spelling that was given has its own value, whatever others derive it. The largest value counts if several are
        given for what the tokenizer writes the same, with a warning, and if several derive a spelling that nobody gave.
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
                "%d words have several values, for the tokenizer writes them as other words of the list, such as '%s'; "
                "the largest counts",
                *(len(doubtful), next(iter(doubtful))),
            )
        found: dict[int, dict[int, float]] = {}
        for (n, ngram), value in (derived | given).items():
            found.setdefault(n, {})[ngram] = value
        return cls.of_tables([found.get(n, {}) for n in range(1, max(found, default=0) + 1)])

    @classmethod
    def of_tables(cls, tables: Sequence[Mapping[int, float]]) -> "Phrases":
        """`tables`: for n = 1, 2, …: key → value."""
        keys, values = [], []
        for table in tables:
            names = np.array(list(table), dtype=np.uint64)
            order = np.argsort(names)
            keys.append(names[order])
            values.append(np.array(list(table.values()), dtype=np.float64)[order])
        return cls(keys, values)

    def find(self, blocks: TokenBlocks, otherwise: float) -> tuple[Tensor, Tensor]:
        """Cut each block into phrases and the words between them.

        Returns:
            int64 [B, T]: number of the phrase or word that a token belongs to, in the block; -1 where there is none;
            float64 [B, T]: the value of the phrase, `otherwise` elsewhere.
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
        """What words have [W] → what their tokens have [B, T]."""
        unit, _ = number_units(blocks.word_index, blocks)
        width = int(words.number.max(initial=0)) + 2
        table = np.full((len(blocks), width), otherwise, dtype=of_word.dtype)
        table[words.rows, words.number + 1] = of_word
        return torch.from_numpy(np.take_along_axis(table, unit.cpu().numpy() + 1, axis=1)).to(unit.device)


def _segments(length: IntArray, value: FloatArray) -> tuple[IntArray, FloatArray]:
    """The phrases that are taken, from the left: number [W] and value [W] of each word's.

    Args:
        length: [W] words of the longest phrase that begins at each word, 1 where none does.
        value: [W] its value.
    """
    segment, taken = np.arange(len(length)), value.copy()
    free = 0
    for start in np.flatnonzero(length > 1).tolist():
        if start >= free:
            free = start + int(length[start])
            segment[start:free], taken[start:free] = start, value[start]
    return segment, taken


def _spellings(text: str) -> list[tuple[str, bool]]:
    """Spellings of a phrase at the start of a text and inside, and whether each is the one that was given."""
    text = text.strip()
    forms = dict.fromkeys([text, text.lower(), text.upper(), text[:1].upper() + text[1:]])
    return [(before + form, form == text) for form in forms for before in (" ", "")]


def _keys_of(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase") -> Iterable[tuple[int, int]]:
    """For each text, words and key of the whole; (0, 0) where it holds no word."""
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
