"""A tokenised corpus: blocks of tokens in an Arrow file that is mapped into memory, named by what it was made from."""

import functools
import hashlib
import logging
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from nmg.data.cutting import SCHEMA, TOKEN_COLUMNS, SpecialTokens, cut_texts, fingerprint
from nmg.errors import UserError
from nmg.files import user_path, write_aside
from nmg.types import NO_POSITION, IntArray, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE_VERSION = 1
"""Part of every digest: raise it whenever blocks or the file's layout change."""

_log = logging.getLogger(__name__)


def default_cache_dir(setting: str | None) -> Path:
    """Where tokenised corpora are kept: the setting, else `$NMG_CACHE`, else ~/.cache/nmg."""
    return user_path(setting or os.environ.get("NMG_CACHE") or "~/.cache/nmg")


class Corpus:
    """Every block of every text, nothing lost. Made by `Corpus.build`.

    Special tokens are never maskable, also where their ids stand in the text (someone wrote "[SEP]"); the unknown
    token is, as it stands for a piece of the text. `word_index` is -1 and offsets are (0, 0) exactly at the tokens that
    are not maskable.
    """

    digest: str
    """64 hex digits, of text, tokenizer and settings: the name of the cache file"""
    lengths: IntArray
    """[n_blocks] tokens, special tokens included"""
    context_ids: IntArray
    """[n_blocks] index of the text"""

    def __init__(self, digest: str, columns: pa.RecordBatch, padding_id: int, cache_dir: Path | None = None) -> None:
        """`columns` as in `cutting.SCHEMA`."""
        self.digest = digest
        self._cache_dir = cache_dir or default_cache_dir(None)
        self._columns = columns
        self._padding_id = padding_id
        self._values = {name: columns.column(name).values.to_numpy() for name in TOKEN_COLUMNS}
        self._offsets = columns.column("input_ids").offsets.to_numpy()  # the same for all token columns
        self.lengths = np.diff(self._offsets)
        self.context_ids = columns.column("context_id").to_numpy()

    @classmethod
    def build(
        cls, texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", block_size: int, cache_dir: Path
    ) -> "Corpus":
        """Tokenise and cut `texts`, or map the file that an earlier call left in `cache_dir`.

        A cache file that is damaged is made anew. Raises UserError if no text has a token, if the tokenizer does not
        serve (not fast, no padding token), or if `cache_dir` cannot be written.
        """
        padding_id = SpecialTokens.of(tokenizer).padding
        digest = _digest(texts, tokenizer, block_size)
        path = cache_dir / f"{digest}.arrow"
        columns = _read(path, digest)
        if columns is None:
            if path.exists():
                _log.warning("%s is damaged; tokenising the corpus again", path)
            columns = cut_texts(texts, tokenizer, block_size)
            if columns.num_rows == 0:
                raise UserError(f"the corpus is empty: its {len(texts)} texts hold no token")
            _write(columns, path, digest)
            columns = _read(path, digest) or columns  # the mapped file, so that memory is given back
        return cls(digest, columns, padding_id, cache_dir)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.lengths)

    def blocks(self, block_ids: IntArray) -> TokenBlocks:
        """The blocks in the order asked for, padded on the right to the longest of these."""
        block_ids = np.asarray(block_ids, dtype=np.int64)
        lengths = self.lengths[block_ids]
        columns = np.arange(lengths.max(initial=0))
        is_token = columns < lengths[:, None]
        # [B, T] index into the flat token columns; padding reads the block's first token and is overwritten
        source = self._offsets[block_ids][:, None] + np.where(is_token, columns, 0)
        input_ids = np.where(is_token, self._values["input_ids"][source], self._padding_id)
        word_index = np.where(is_token, self._values["word_index"][source], NO_POSITION)
        return TokenBlocks(
            block_ids=torch.from_numpy(block_ids.copy()),
            context_ids=torch.from_numpy(self.context_ids[block_ids]),
            input_ids=torch.from_numpy(input_ids.astype(np.int64)),
            is_token=torch.from_numpy(is_token),
            is_maskable=torch.from_numpy(word_index != NO_POSITION),
            word_index=torch.from_numpy(word_index.astype(np.int64)),
        )

    def blocks_of(self, context_ids: IntArray) -> IntArray:
        """The blocks of these contexts, in corpus order."""
        return np.flatnonzero(np.isin(self.context_ids, context_ids))

    @functools.cached_property
    def distinct_ids(self) -> IntArray:
        """Ids of all tokens that occur, special tokens included, ascending."""
        ids: IntArray = np.unique(self._values["input_ids"]).astype(np.int64)
        return ids

    def beside(self, name: str) -> Path:
        """A file in the cache for what is found in this corpus, and kept."""
        return self._cache_dir / f"{self.digest}.{name}"

    def text(self, block_id: int) -> str:
        """The block's piece of its context, from its first token to its last."""
        text: str = self._columns.column("text")[int(block_id)].as_py()
        return text

    def offsets(self, block_id: int) -> IntArray:
        """int64 [n_tokens, 2]: the characters of `text(block_id)` each token stands for; (0, 0) at special tokens."""
        piece = slice(self._offsets[block_id], self._offsets[block_id + 1])
        pairs: IntArray = np.stack([self._values["starts"][piece], self._values["ends"][piece]], axis=1).astype(
            np.int64
        )
        return pairs


def _digest(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", block_size: int) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {block_size} {len(texts)}\n".encode())
    for text in (fingerprint(tokenizer), *texts):
        content = text.encode()
        digest.update(len(content).to_bytes(8, "little"))  # ["ab", "c"] is not ["a", "bc"]
        digest.update(content)
    return digest.hexdigest()


def _write(columns: pa.RecordBatch, path: Path, digest: str) -> None:
    metadata = {"digest": digest, "blocks": str(columns.num_rows), "checksum": _checksum(columns)}
    columns = columns.replace_schema_metadata(metadata)
    with write_aside(path) as aside, pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, columns.schema) as file:
        file.write_batch(columns)


def _read(path: Path, digest: str) -> pa.RecordBatch | None:
    """The columns of a cache file; None if it is missing, damaged or of another corpus."""
    try:
        with pa.ipc.open_file(pa.memory_map(str(path))) as file:
            columns = file.get_batch(0)
        columns.validate(full=True)
    except (pa.ArrowException, OSError):
        return None
    metadata = columns.schema.metadata or {}
    is_whole = (
        columns.schema.equals(SCHEMA)
        and metadata.get(b"digest") == digest.encode()
        and metadata.get(b"blocks") == str(columns.num_rows).encode()
        and metadata.get(b"checksum") == _checksum(columns).encode()
    )
    return columns if is_whole else None


def _checksum(columns: pa.RecordBatch) -> str:
    """CRC-32 of all values: a read at the disk's speed, no parsing."""
    checksum = 0
    for values in _buffers(columns):
        checksum = zlib.crc32(values.data, checksum)
    return f"{checksum:08x}"


def _buffers(columns: pa.RecordBatch) -> list[npt.NDArray[Any]]:
    """The columns' memory as flat arrays, without the slack that Arrow may leave behind them."""
    text = columns.column("text")
    text_offsets = np.frombuffer(text.buffers()[1], dtype=np.int64, count=len(text) + 1)
    characters = np.frombuffer(text.buffers()[2], dtype=np.uint8, count=int(text_offsets[-1]))
    arrays = [columns.column("context_id").to_numpy(), text_offsets, characters]
    for name in TOKEN_COLUMNS:
        column = columns.column(name)
        arrays += [column.offsets.to_numpy(), column.values.to_numpy()]
    return arrays
