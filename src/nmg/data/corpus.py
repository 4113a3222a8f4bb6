"""A tokenised corpus: blocks of tokens in an Arrow file that is mapped into memory, named by what it was made from."""

import functools
import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from nmg.data.corpus_file import read_batches, write_batches
from nmg.data.cutting import TOKEN_COLUMNS, cut_texts, fingerprint
from nmg.data.framing import SpecialTokens
from nmg.errors import UserError, bad_input, shown
from nmg.files import user_path
from nmg.reporter import Progress
from nmg.types import NO_POSITION, IntArray, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE_VERSION = 1
"""Part of every digest: raise it whenever blocks or the file's layout change."""

_log = logging.getLogger(__name__)


class EmptyCorpus(UserError):  # noqa: N818 it says what the corpus is
    """No text has a token."""


def default_cache_dir(setting: str | None) -> Path:
    """Where tokenised corpora are kept: the setting, else `$NMG_CACHE`, else ~/.cache/nmg."""
    return user_path(setting or os.environ.get("NMG_CACHE") or "~/.cache/nmg")


@dataclass(frozen=True)
class _Part:
    """A batch of blocks, its memory as numpy sees it."""

    texts: pa.LargeStringArray
    context_ids: IntArray
    """[n_blocks]"""
    offsets: IntArray
    """[n_blocks + 1] where each block begins in `values`"""
    values: Mapping[str, npt.NDArray[np.int32]]
    """`TOKEN_COLUMNS` → [n_tokens]"""

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Self:
        """`batch` as in `cutting.SCHEMA`."""
        offsets = batch.column("input_ids").offsets.to_numpy()  # the same for all token columns
        values = {name: batch.column(name).values.to_numpy() for name in TOKEN_COLUMNS}
        return cls(batch.column("text"), batch.column("context_id").to_numpy(), offsets, values)


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
    padding_id: int
    """fills a batch after the end of a shorter block"""

    def __init__(
        self, digest: str, batches: Iterable[pa.RecordBatch], padding_id: int, cache_dir: Path | None = None
    ) -> None:
        """`batches` as in `cutting.SCHEMA`."""
        self.digest = digest
        self._cache_dir = cache_dir or default_cache_dir(None)
        self._parts = [_Part.of(batch) for batch in batches]
        self.padding_id = padding_id
        nothing = np.empty(0, dtype=np.int64)
        self.lengths = np.concatenate([nothing, *(np.diff(part.offsets) for part in self._parts)])
        self.context_ids = np.concatenate([nothing, *(part.context_ids for part in self._parts)])
        self._first_blocks = np.cumsum([0, *(len(part.context_ids) for part in self._parts)])

    @classmethod
    def build(
        cls,
        texts: Collection[str],
        tokenizer: "PreTrainedTokenizerBase",
        block_size: int,
        cache_dir: Path,
        progress: Progress | None = None,
    ) -> "Corpus":
        """Tokenise and cut `texts`, or map the file that an earlier call left in `cache_dir`.

        Texts are gone through more than once, and only a few of them are in memory at a time. A cache file that is
        damaged is made again. Raises UserError if no text has a token that may be masked, if the tokenizer does not
        serve (not fast, no padding token), or if `cache_dir` cannot be written.
        """
        padding_id = SpecialTokens.of(tokenizer).padding
        digest = _digest(texts, tokenizer, block_size)
        path = cache_dir / f"{digest}.arrow"
        batches = read_batches(path, digest)
        if batches is None:
            if path.exists():
                _log.warning("%s is damaged or has another format; tokenising the corpus again", path)
            n_texts = len(texts)
            cut = cut_texts(texts, tokenizer, block_size, lambda done: progress(done, n_texts) if progress else None)
            write_batches(path, digest, _some(cut, texts))
            batches = read_batches(path, digest)
            if batches is None:
                raise bad_input(path, "the tokenised corpus, just written, cannot be read again; is the disk sound?")
        corpus = cls(digest, batches, padding_id, cache_dir)
        if not any((part.values["word_index"] != NO_POSITION).any() for part in corpus._parts):
            raise UserError(f"the corpus holds special tokens alone ({_shown(texts)}): nothing in it can be masked")
        return corpus

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.lengths)

    def blocks(self, block_ids: IntArray) -> TokenBlocks:
        """The blocks in the order asked for, padded on the right to the longest of these."""
        block_ids = np.asarray(block_ids, dtype=np.int64)
        lengths = self.lengths[block_ids]
        columns = np.arange(lengths.max(initial=0))
        is_token = columns < lengths[:, None]
        input_ids = np.full(is_token.shape, self.padding_id, dtype=np.int64)
        word_index = np.full(is_token.shape, NO_POSITION, dtype=np.int64)
        part_of, row_in_part = self._places(block_ids)
        for number in np.unique(part_of):
            part, rows = self._parts[number], np.flatnonzero(part_of == number)
            # [rows, T] index into the part's flat token columns
            source = part.offsets[row_in_part[rows]][:, None] + columns
            is_here = is_token[rows]
            for target, name in ((input_ids, "input_ids"), (word_index, "word_index")):
                values = target[rows]
                values[is_here] = part.values[name][source[is_here]]
                target[rows] = values
        return TokenBlocks(
            block_ids=torch.from_numpy(block_ids.copy()),
            context_ids=torch.from_numpy(self.context_ids[block_ids]),
            input_ids=torch.from_numpy(input_ids),
            is_token=torch.from_numpy(is_token),
            is_maskable=torch.from_numpy(word_index != NO_POSITION),
            word_index=torch.from_numpy(word_index),
        )

    def blocks_of(self, context_ids: IntArray) -> IntArray:
        """The blocks of these contexts, in corpus order."""
        return np.flatnonzero(np.isin(self.context_ids, context_ids))

    @functools.cached_property
    def distinct_ids(self) -> IntArray:
        """Ids of all tokens that occur, special tokens included, ascending."""
        of_parts = [np.unique(part.values["input_ids"]) for part in self._parts]
        ids: IntArray = np.unique(np.concatenate([np.empty(0, np.int32), *of_parts])).astype(np.int64)
        return ids

    def share(self, token_id: int) -> float:
        """The share of the maskable tokens that are this token; 0 if there are none."""
        n_of_it = n_in_all = 0
        for part in self._parts:
            is_maskable = part.values["word_index"] != NO_POSITION
            n_of_it += int(np.count_nonzero(is_maskable & (part.values["input_ids"] == token_id)))
            n_in_all += int(np.count_nonzero(is_maskable))
        return n_of_it / max(n_in_all, 1)

    def beside(self, name: str) -> Path:
        """A file in the cache for what is found in this corpus, and kept."""
        return self._cache_dir / f"{self.digest}.{name}"

    def text(self, block_id: int) -> str:
        """The block's piece of its context, from its first token to its last."""
        part, row = self._place(block_id)
        text: str = part.texts[row].as_py()
        return text

    def offsets(self, block_id: int) -> IntArray:
        """int64 [n_tokens, 2]: the characters of `text(block_id)` each token stands for; (0, 0) at special tokens."""
        part, row = self._place(block_id)
        piece = slice(part.offsets[row], part.offsets[row + 1])
        pairs: IntArray = np.stack([part.values["starts"][piece], part.values["ends"][piece]], axis=1).astype(np.int64)
        return pairs

    def _places(self, block_ids: IntArray) -> tuple[IntArray, IntArray]:
        """[n], [n]: the part of each block, and its row there."""
        part_of = np.searchsorted(self._first_blocks, block_ids, side="right") - 1
        return part_of, block_ids - self._first_blocks[part_of]

    def _place(self, block_id: int) -> tuple[_Part, int]:
        (part,), (row,) = self._places(np.array([block_id]))
        return self._parts[part], int(row)


def _shown(texts: Collection[str]) -> str:
    """The beginning of the first text, for a message."""
    return shown(next(iter(texts), "")[:60])


def _some(batches: Iterator[pa.RecordBatch], texts: Collection[str]) -> Iterator[pa.RecordBatch]:
    """The batches; EmptyCorpus if none of them has a row."""
    is_empty = True
    for batch in batches:
        is_empty = is_empty and batch.num_rows == 0
        yield batch
    if is_empty:
        reason = "every one is blank"
        if written := next((text for text in texts if text.strip()), None):
            reason = f"the tokenizer drops every character, as those of {shown(written[:60])}; give text that it knows"
        raise EmptyCorpus(f"the corpus is empty: its {len(texts)} texts hold no token: {reason}")


def _digest(texts: Collection[str], tokenizer: "PreTrainedTokenizerBase", block_size: int) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {block_size} {len(texts)}\n".encode())
    for text in chain([fingerprint(tokenizer)], texts):
        content = text.encode()
        digest.update(len(content).to_bytes(8, "little"))  # ["ab", "c"] is not ["a", "bc"]
        digest.update(content)
    return digest.hexdigest()
