"""Conversion of data loader rows into token blocks, with padding, special tokens and words."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from nmg.base.errors import UserError
from nmg.base.types import NO_POSITION, BoolArray, IntArray, TokenBlocks
from nmg.collation.packed import POSITIONS, cut_at_documents
from nmg.collation.recovery import Recovered, Recovery
from nmg.data.words import is_unsure

_log = logging.getLogger(__name__)

ROWS_KEPT = 1 << 16
"""Number of most recent rows whose words are cached: about 50 MB at 128 tokens per row."""


@dataclass(frozen=True)
class Row:
    """One row of T tokens, before the collator pads it."""

    ids: IntArray
    """int64 [T]: token ids."""
    is_token: IntArray
    """int64 [T]: the attention mask."""
    is_special: IntArray | None
    """int64 [T]: 1 at tokens that must not be masked, in addition to special tokens; None if not in the data."""
    word_ids: tuple[int | None, ...] | None
    """[T]: word ids of the tokenizer; None if not in the data."""
    extra: Mapping[str, Sequence[int]]
    """Other inputs of the model by name, [T] each."""

    @cached_property
    def key(self) -> int:
        """A 63-bit hash of the tokens; collisions are very unlikely."""
        digest = hashlib.blake2b(self.ids.tobytes(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1


class RowReader:
    """Converts rows into blocks, and provides the text of the most recent blocks (`masking.base.BlockTexts`).

    If the attribute `reads_words` is False, every token is a separate word. This saves the time to find words.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> None:
        self.tokenizer = tokenizer
        self.recovery = Recovery(tokenizer)
        self.reads_words = True
        self._max_length = max_length
        self._words: dict[int, npt.NDArray[np.int32]] = {}
        self._last: dict[int, Row] = {}
        # The flag is in shared memory: workers are copied for every epoch, and only one of them should warn.
        self._has_warned = torch.zeros(1, dtype=torch.bool)
        self._has_warned.share_memory_()  # type: ignore[no-untyped-call]

    def rows(self, features: Sequence[Any]) -> list[Row]:
        """Convert texts, lists of ids, or mappings with `input_ids` or `text` into rows.

        Raises UserError for any other type.
        """
        return [self._row(feature) for feature in features]

    def blocks(self, rows: Sequence[Row]) -> TokenBlocks:
        """Convert rows into blocks, padded on the right to the longest row; `block_ids` are the keys of the rows."""
        width = max((len(row.ids) for row in rows), default=0)
        shape = (len(rows), width)
        ids = np.full(shape, self.recovery.special.padding, dtype=np.int64)
        is_token, word = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int64)
        self._last = {row.key: row for row in rows}
        words = self._words_of(rows)
        for b, row in enumerate(rows):
            n = len(row.ids)
            ids[b, :n], is_token[b, :n], word[b, :n] = row.ids, (row.is_token != 0), words[b]
            if POSITIONS in row.extra:
                word[b, :n] = cut_at_documents(word[b, :n], row.extra[POSITIONS])
            if row.is_special is not None:
                word[b, :n][row.is_special != 0] = NO_POSITION
        word[~is_token | self.recovery.is_special(ids)] = NO_POSITION
        index, word_index = torch.tensor([row.key for row in rows], dtype=torch.int64), torch.from_numpy(word)
        tensors = (torch.from_numpy(ids), torch.from_numpy(is_token), word_index >= 0, word_index)
        return TokenBlocks(index, index.clone(), *tensors)

    def text(self, block_id: int) -> str:
        """Return the text of one of the most recent blocks."""
        return self._recovered(block_id).text

    def offsets(self, block_id: int) -> IntArray:
        """Return int64 [T, 2]: start and end of each token in the text of one of the most recent blocks."""
        return self._recovered(block_id).offsets

    def _recovered(self, block_id: int) -> Recovered:
        """Recover the text of one of the most recent blocks."""
        return self.recovery.rows([self._last[int(block_id)].ids])[0]

    def _words_of(self, rows: Sequence[Row]) -> list[IntArray | npt.NDArray[np.int32]]:
        """Return the word number of each token, [T] per row, in non-decreasing order."""
        if not self.reads_words:
            return [np.arange(len(row.ids)) for row in rows]
        missing = {row.key: row.ids for row in rows if row.word_ids is None and row.key not in self._words}
        for key, found in zip(missing, self.recovery.rows(list(missing.values())), strict=True):
            self._words[key] = found.word_index.astype(np.int32)
            self._warn_if_unsure(found)
        words = [
            self._words[row.key] if row.word_ids is None else _running(row.word_ids, self.recovery.is_special(row.ids))
            for row in rows
        ]
        while len(self._words) > ROWS_KEPT:
            del self._words[next(iter(self._words))]
        return words

    def _warn_if_unsure(self, found: Recovered) -> None:
        """Warn once if the recovered words are uncertain."""
        if not self._has_warned and is_unsure(found.text, found.word_starts):
            self._has_warned.fill_(True)
            _log.warning(
                "words are guessed from tokens because the tokenizer does not mark them, so in a script without spaces "
                "every token counts as a word. If you know the words, add a column word_ids to the rows and set "
                "remove_unused_columns=False in TrainingArguments, or Trainer removes the column."
            )

    def _row(self, feature: Any) -> Row:
        """Convert one text, list of ids or mapping into a row. Raises UserError if it is invalid."""
        if isinstance(feature, Mapping) and "input_ids" not in feature and isinstance(feature.get("text"), str):
            feature = feature["text"]
        if isinstance(feature, str):
            is_cut = self._max_length is not None
            feature = self.tokenizer(feature, truncation=is_cut, max_length=self._max_length)
        if not isinstance(feature, Mapping):
            feature = {"input_ids": feature}
        if "input_ids" not in feature:
            raise UserError(f"a row has neither input_ids nor text (its fields: {', '.join(feature) or 'none'})")
        ids = np.asarray(feature["input_ids"], dtype=np.int64)
        if ids.ndim != 1:
            raise UserError(f"input_ids of a row must be one list of numbers, not an array of the shape {ids.shape}")
        for name in ("attention_mask", "special_tokens_mask", "word_ids", POSITIONS):
            if feature.get(name) is not None and len(feature[name]) != len(ids):
                raise UserError(f"{name} of a row has {len(feature[name])} entries, but input_ids has {len(ids)}")
        names = {*self.tokenizer.model_input_names, POSITIONS} - {"input_ids", "attention_mask"}
        word_ids = feature.get("word_ids")
        return Row(
            ids,
            np.asarray(feature.get("attention_mask", np.ones_like(ids)), dtype=np.int64),
            np.asarray(feature["special_tokens_mask"]) if "special_tokens_mask" in feature else None,
            None if word_ids is None else tuple(word_ids),
            {name: feature[name] for name in sorted(names) if feature.get(name) is not None},
        )


def _running(word_ids: Sequence[int | None], is_special: BoolArray) -> IntArray:
    """Convert the tokenizer's word ids into non-decreasing numbers, even if a row contains several texts.

    A token without a word id becomes a separate word.
    """
    number, before = -1, object()
    words = np.zeros(len(word_ids), dtype=np.int64)
    for place, word in enumerate(word_ids):
        if is_special[place]:
            before = object()
            continue
        number += word is None or word != before
        words[place], before = number, word
    return words
