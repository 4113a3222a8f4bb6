"""Cuts texts into token blocks, stored as the Arrow columns of a corpus."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nmg.base.types import NO_POSITION, IntArray
from nmg.data.framing import SpecialTokens
from nmg.data.words import cut_ends, word_starts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKEN_COLUMNS = ("input_ids", "word_index", "starts", "ends")
SCHEMA = pa.schema(
    [
        pa.field("context_id", pa.int64(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        *(pa.field(name, pa.large_list(pa.int32()), nullable=False) for name in TOKEN_COLUMNS),
    ]
)
"""Columns of a record batch, which has one row per block. `word_index` is as in `TokenBlocks`. `starts` and `ends` are
character offsets in the block's `text`."""

TEXTS_AT_ONCE = 256
"""Maximum number of texts per call of the tokenizer."""
CHARACTERS_AT_ONCE = 1_000_000
"""Approximate number of characters per call of the tokenizer, whose own records take some hundred bytes per token."""
TOKENS_AT_ONCE = 2_000_000
"""Approximate number of tokens per record batch: 32 MB plus the text."""


def fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a JSON text of all properties of the tokenizer that affect blocks. Equal texts mean equal blocks."""
    special = SpecialTokens.of(tokenizer)
    # The call in `SpecialTokens.of` reset truncation and padding, which the backend keeps from earlier calls.
    backend = tokenizer.backend_tokenizer.to_str()
    frame = [special.prefix, special.suffix, special.padding, sorted(special.unmaskable)]
    return json.dumps([backend, frame, tokenizer.split_special_tokens])


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the first 16 hex digits of the SHA-256 of the tokenizer's `fingerprint`."""
    return hashlib.sha256(fingerprint(tokenizer).encode()).hexdigest()[:16]


def cut_texts(
    texts: Iterable[str],
    tokenizer: "PreTrainedTokenizerBase",
    block_size: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Cut every text into blocks of at most `block_size` tokens and yield them in batches.

    No token is lost. Texts are cut between words, except inside a word that is longer than a block. A text without
    tokens gives no block. A batch has about `TOKENS_AT_ONCE` tokens, which bounds the memory; the last one may be
    empty.

    Args:
        texts: the documents; they are iterated over once.
        tokenizer: a fast tokenizer with a padding token.
        block_size: maximum number of tokens per block, excluding special tokens.
        progress: called with the number of texts done.

    Returns:
        Record batches with the schema `SCHEMA`.

    Raises:
        UserError: if the tokenizer is not fast or has no padding token.
    """
    special = SpecialTokens.of(tokenizer)
    blocks: list[_Block] = []
    n_tokens = n_texts = 0
    for some in text_batches(texts):
        encoded = tokenizer(
            some, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )
        for number, (text, encoding) in enumerate(zip(some, encoded.encodings, strict=True), start=n_texts):
            blocks.extend(_cut_text(number, text, encoding, special, block_size))
            n_tokens += len(encoding.ids)
        n_texts += len(some)
        if progress is not None:
            progress(n_texts)
        if n_tokens >= TOKENS_AT_ONCE:
            yield _as_columns(blocks)
            blocks, n_tokens = [], 0
    yield _as_columns(blocks)


def text_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield lists of at most `TEXTS_AT_ONCE` texts and about `CHARACTERS_AT_ONCE` characters."""
    some: list[str] = []
    n_characters = 0
    for text in texts:
        some.append(text)
        n_characters += len(text)
        if len(some) == TEXTS_AT_ONCE or n_characters >= CHARACTERS_AT_ONCE:
            yield some
            some, n_characters = [], 0
    if some:
        yield some


@dataclass(frozen=True)
class _Block:
    """A block of one text, before it is stored in columns."""

    context_id: int
    text: str
    columns: npt.NDArray[np.int32]
    """int32 [4, n_tokens]: rows in the order of `TOKEN_COLUMNS`."""


def _cut_text(context_id: int, text: str, encoding: Any, special: SpecialTokens, block_size: int) -> "list[_Block]":
    """Cut one encoded text into blocks.

    Args:
        context_id: index of the text in the corpus.
        text: the text.
        encoding: its encoding by the backend of a fast tokenizer, without special tokens.
        special: special tokens and word boundaries of the tokenizer.
        block_size: maximum number of tokens per block, excluding special tokens.

    Returns:
        The blocks, with special tokens, in the order of the text.
    """
    ids = np.asarray(encoding.ids, dtype=np.int32)
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    # A token that belongs to no word counts as one word.
    words = np.array([-1 if word is None else word for word in encoding.word_ids], dtype=np.int64)
    is_special = np.isin(ids, list(special.unmaskable))
    is_word_start = word_starts(text, words, offsets, special.only_spaces)
    blocks = []
    start = 0
    for end in cut_ends(is_word_start, block_size):
        piece = slice(start, end)
        first, last = int(offsets[start, 0]), int(offsets[piece, 1].max())
        is_start = is_word_start[piece].copy()
        is_start[0] = True  # the word may have started in the previous block
        index = np.cumsum(is_start & ~is_special[piece]) - 1
        columns = np.stack([ids[piece], index, *(offsets[piece] - first).clip(min=0).T]).astype(np.int32)
        columns[1:, is_special[piece]] = [[NO_POSITION], [0], [0]]
        blocks.append(_Block(context_id, text[first:last], _framed(columns, special)))
        start = end
    return blocks


def _framed(columns: npt.NDArray[np.int32], special: SpecialTokens) -> npt.NDArray[np.int32]:
    """Add the special tokens before and after `columns`, int32 [4, n]."""

    def added(ids: tuple[int, ...]) -> npt.NDArray[np.int32]:
        n = len(ids)
        return np.array([ids, [NO_POSITION] * n, [0] * n, [0] * n], dtype=np.int32)

    return np.concatenate([added(special.prefix), columns, added(special.suffix)], axis=1)


def _as_columns(blocks: Sequence[_Block]) -> pa.RecordBatch:
    """Return the blocks as a record batch."""
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
