"""Rows of a data loader → token blocks: padding, special tokens, words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from nmg.collation.recovery import Recovered, Recovery
from nmg.errors import UserError
from nmg.types import NO_POSITION, IntArray, TokenBlocks

ROWS_KEPT = 1 << 16
"""rows whose words are kept, those met last"""


@dataclass(frozen=True)
class Row:
    """One row: T tokens, no padding that the loader adds."""

    ids: IntArray
    """[T]"""
    is_token: IntArray
    """[T] the attention mask"""
    is_special: IntArray
    """[T] 1 at what may not be masked beside special tokens, as the data says"""
    word_ids: tuple[int | None, ...] | None
    """[T] of the tokenizer, where the data has them"""
    extra: Mapping[str, Sequence[int]]
    """what else the model takes, [T] each"""

    @property
    def key(self) -> bytes:
        return self.ids.tobytes()


class RowReader:
    """Makes blocks of rows, and knows the text behind those it made last (`masking.base.BlockTexts`)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> None:
        self.tokenizer = tokenizer
        self.recovery = Recovery(tokenizer)
        self._max_length = max_length
        self._known: dict[bytes, tuple[int, Recovered]] = {}
        self._by_number: dict[int, Recovered] = {}
        self._met = 0

    def rows(self, features: Sequence[Any]) -> list[Row]:
        """Rows from whatever a data set gives: texts, lists of ids, or mappings with `input_ids` or `text`.

        Raises UserError for anything else.
        """
        return [self._row(feature) for feature in features]

    def blocks(self, rows: Sequence[Row]) -> TokenBlocks:
        """Padded on the right to the longest; `block_ids` number distinct rows."""
        recovered, numbers = self._recovered(rows)
        width = max((len(row.ids) for row in rows), default=0)
        shape = (len(rows), width)
        ids = np.full(shape, self.recovery.special.padding, dtype=np.int64)
        word, is_token = np.full(shape, NO_POSITION), np.zeros(shape, dtype=np.bool_)
        for b, (row, found) in enumerate(zip(rows, recovered, strict=True)):
            n = len(row.ids)
            ids[b, :n], is_token[b, :n] = row.ids, row.is_token != 0
            words = found.word_index if row.word_ids is None else _running(row.word_ids, found.word_index)
            word[b, :n] = np.where((row.is_token != 0) & (row.is_special == 0), words, NO_POSITION)
        index = torch.tensor(numbers, dtype=torch.int64)
        words_there = torch.from_numpy(word)
        return TokenBlocks(
            index, index.clone(), torch.from_numpy(ids), torch.from_numpy(is_token), words_there >= 0, words_there
        )

    def text(self, block_id: int) -> str:
        return self._by_number[int(block_id)].text

    def offsets(self, block_id: int) -> IntArray:
        return self._by_number[int(block_id)].offsets

    def _recovered(self, rows: Sequence[Row]) -> tuple[list[Recovered], list[int]]:
        keys = [row.key for row in rows]
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._known}
        new = self.recovery.rows([row.ids for row in missing.values()])
        for key, found in zip(missing, new, strict=True):
            self._known[key] = self._met, found
            self._by_number[self._met] = found
            self._met += 1
        together = [self._known[key] for key in keys]
        while len(self._known) > max(ROWS_KEPT, len(rows)):
            number, _ = self._known.pop(next(iter(self._known)))
            self._by_number.pop(number)
        return [found for _, found in together], [number for number, _ in together]

    def _row(self, feature: Any) -> Row:
        if isinstance(feature, Mapping) and "input_ids" not in feature and isinstance(feature.get("text"), str):
            feature = feature["text"]
        if isinstance(feature, str):
            is_cut = self._max_length is not None
            feature = self.tokenizer(feature, truncation=is_cut, max_length=self._max_length)
        if not isinstance(feature, Mapping):
            feature = {"input_ids": feature}
        if "input_ids" not in feature:
            raise UserError(f"a row has neither input_ids nor text (it has: {', '.join(feature) or 'nothing'})")
        ids = np.asarray(feature["input_ids"], dtype=np.int64)
        if ids.ndim != 1:
            raise UserError(f"input_ids of a row must be one list of numbers, not of the shape {ids.shape}")
        names = [name for name in self.tokenizer.model_input_names if name not in {"input_ids", "attention_mask"}]
        word_ids = feature.get("word_ids")
        return Row(
            ids,
            np.asarray(feature.get("attention_mask", np.ones_like(ids)), dtype=np.int64),
            np.asarray(feature.get("special_tokens_mask", np.zeros_like(ids)), dtype=np.int64),
            None if word_ids is None else tuple(word_ids),
            {name: feature[name] for name in names if name in feature},
        )


def _running(word_ids: Sequence[int | None], recovered: IntArray) -> IntArray:
    """The tokenizer's words as numbers that do not fall, also where a row holds several texts; -1 at special tokens.

    A token without a word is one for itself.
    """
    number, before = -1, object()
    words = np.full(len(word_ids), NO_POSITION, dtype=np.int64)
    for place, word in enumerate(word_ids):
        if recovered[place] == NO_POSITION:
            before = object()
            continue
        number += word is None or word != before
        words[place], before = number, word
    return words
