"""Texts → token blocks, as the Arrow columns that a corpus keeps."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nmg.errors import UserError
from nmg.types import NO_POSITION, IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BoolArray = npt.NDArray[np.bool_]

TOKEN_COLUMNS = ("input_ids", "word_index", "starts", "ends")
SCHEMA = pa.schema(
    [
        pa.field("context_id", pa.int64(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        *(pa.field(name, pa.large_list(pa.int32()), nullable=False) for name in TOKEN_COLUMNS),
    ]
)
"""One row a block. `word_index` is as in `TokenBlocks`; `starts` and `ends` are characters of the block's `text`."""

_TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class SpecialTokens:
    """What a block is framed with, and which ids may not be masked wherever they stand."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    padding: int
    unmaskable: frozenset[int]
    """All special tokens but the unknown token: a piece the vocabulary lacks is a piece of the text all the same."""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "SpecialTokens":
        """Raises UserError for a tokenizer without offsets (a slow one) or without a padding token."""
        if not tokenizer.is_fast:
            raise UserError(f"tokenizer '{tokenizer.name_or_path}': a fast tokenizer is needed (tokenizer.json)")
        if tokenizer.pad_token_id is None:
            raise UserError(f"tokenizer '{tokenizer.name_or_path}': has no padding token")
        probe = tokenizer("a", return_special_tokens_mask=True)
        ids, is_added = probe["input_ids"], probe["special_tokens_mask"]
        n_before = is_added.index(0) if 0 in is_added else len(ids)
        n_after = is_added[::-1].index(0) if 0 in is_added else 0
        framing = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id, tokenizer.pad_token_id}
        unmaskable = set(tokenizer.all_special_ids)
        if tokenizer.unk_token_id not in framing:
            unmaskable.discard(tokenizer.unk_token_id)
        return cls(
            prefix=tuple(ids[:n_before]),
            suffix=tuple(ids[len(ids) - n_after :]),
            padding=tokenizer.pad_token_id,
            unmaskable=frozenset(unmaskable),
        )


def fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A text that changes with everything about the tokenizer that changes blocks."""
    special = SpecialTokens.of(tokenizer)
    # After the plain call that `of` made: truncation and padding of earlier calls, which stay in the backend, are gone.
    backend = tokenizer.backend_tokenizer.to_str()
    frame = [special.prefix, special.suffix, special.padding, sorted(special.unmaskable)]
    return json.dumps([backend, frame, tokenizer.split_special_tokens])


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """16 hex digits of its `fingerprint`."""
    return hashlib.sha256(fingerprint(tokenizer).encode()).hexdigest()[:16]


def cut_texts(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", block_size: int) -> pa.RecordBatch:
    """Cut every text into blocks of at most `block_size` tokens, special tokens not counted; rows are as in `SCHEMA`.

    No token is lost. A cut falls between words, except inside a word that is longer than a block. A text without tokens
    gives no block.
    """
    special = SpecialTokens.of(tokenizer)
    blocks: list[_Block] = []
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        some = list(texts[first : first + _TEXTS_AT_ONCE])
        encoded = tokenizer(
            some, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )
        for number, (text, encoding) in enumerate(zip(some, encoded.encodings, strict=True), start=first):
            blocks.extend(_cut_text(number, text, encoding, special, block_size))
    return _as_columns(blocks)


def cut_ends(is_word_start: BoolArray, block_size: int) -> list[int]:
    """Where each block of a text ends (one behind its last token), for `is_word_start` bool [n] of the text's tokens.

    >>> cut_ends(np.array([True, True, False, False, True]), block_size=3)
    [1, 4, 5]
    """
    n_tokens = len(is_word_start)
    # word_of[i]: the first token of token i's word
    word_of = np.maximum.accumulate(np.where(is_word_start, np.arange(n_tokens), 0))
    ends: list[int] = []
    start = 0
    while start < n_tokens:
        end = min(start + block_size, n_tokens)
        if end < n_tokens and word_of[end] > start:
            end = int(word_of[end])  # `end` itself where a word starts there
        ends.append(end)
        start = end
    return ends


@dataclass(frozen=True)
class _Block:
    context_id: int
    text: str
    columns: npt.NDArray[np.int32]
    """[4, n_tokens], rows in the order of `TOKEN_COLUMNS`"""


def _cut_text(context_id: int, text: str, encoding: Any, special: SpecialTokens, block_size: int) -> "list[_Block]":
    ids = np.asarray(encoding.ids, dtype=np.int32)
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    # A token that belongs to no word is a word for itself.
    words = np.array([-1 if word is None else word for word in encoding.word_ids], dtype=np.int64)
    is_special = np.isin(ids, list(special.unmaskable))
    is_word_start = np.ones(len(ids), dtype=np.bool_)
    is_word_start[1:] = (words[1:] != words[:-1]) | (words[1:] < 0)
    blocks = []
    start = 0
    for end in cut_ends(is_word_start, block_size):
        piece = slice(start, end)
        first, last = int(offsets[start, 0]), int(offsets[piece, 1].max())
        is_start = is_word_start[piece].copy()
        is_start[0] = True  # of a word that began in the block before
        index = np.cumsum(is_start & ~is_special[piece]) - 1
        columns = np.stack([ids[piece], index, *(offsets[piece] - first).clip(min=0).T]).astype(np.int32)
        columns[1:, is_special[piece]] = [[NO_POSITION], [0], [0]]
        blocks.append(_Block(context_id, text[first:last], _framed(columns, special)))
        start = end
    return blocks


def _framed(columns: npt.NDArray[np.int32], special: SpecialTokens) -> npt.NDArray[np.int32]:
    """`columns` [4, n] with the special tokens before and behind."""

    def added(ids: tuple[int, ...]) -> npt.NDArray[np.int32]:
        n = len(ids)
        return np.array([ids, [NO_POSITION] * n, [0] * n, [0] * n], dtype=np.int32)

    return np.concatenate([added(special.prefix), columns, added(special.suffix)], axis=1)


def _as_columns(blocks: Sequence[_Block]) -> pa.RecordBatch:
    lengths = np.array([block.columns.shape[1] for block in blocks], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.concatenate([np.empty((4, 0), dtype=np.int32), *(block.columns for block in blocks)], axis=1)
    context_ids: IntArray = np.array([block.context_id for block in blocks], dtype=np.int64)
    return pa.record_batch(
        [
            pa.array(context_ids),
            pa.array([block.text for block in blocks], type=pa.large_string()),
            *(pa.LargeListArray.from_arrays(ends, values) for values in tokens),
        ],
        schema=SCHEMA,
    )
