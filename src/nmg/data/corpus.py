"""A tokenised corpus: blocks of tokens in a memory-mapped Arrow file whose name is a digest of the inputs."""

import copy
import functools
import hashlib
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from nmg.base.errors import UserError, bad_input, shown
from nmg.base.files import default_cache_dir
from nmg.base.progress import Progress
from nmg.base.types import NO_POSITION, IntArray, TokenBlocks
from nmg.data.corpus_file import read_batches, write_batches
from nmg.data.cutting import TOKEN_COLUMNS, cut_texts, fingerprint
from nmg.data.framing import SpecialTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE_VERSION = 1
"""Version of the blocks and of the file layout, part of every digest. Increase it whenever one of them changes."""

_log = logging.getLogger(__name__)


class EmptyCorpus(UserError):  # noqa: N818 the name says what the corpus is
    """No text of the corpus contains a token."""


@dataclass(frozen=True)
class _Part:
    """A record batch of blocks as NumPy views of its memory."""

    texts: pa.LargeStringArray
    context_ids: IntArray
    """int64 [n_blocks]: index of each block's text."""
    offsets: IntArray
    """int64 [n_blocks + 1]: start of each block in `values`."""
    values: Mapping[str, npt.NDArray[np.int32]]
    """Name in `TOKEN_COLUMNS` → int32 [n_tokens]."""

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Self:
        """Return the part for a record batch with the schema `cutting.SCHEMA`."""
        offsets = batch.column("input_ids").offsets.to_numpy()  # the same for all token columns
        values = {name: batch.column(name).values.to_numpy() for name in TOKEN_COLUMNS}
        return cls(batch.column("text"), batch.column("context_id").to_numpy(), offsets, values)


class Corpus:
    """All texts, cut into blocks without losing a token. Created by `Corpus.build`.

    Special tokens are never maskable, even if their ids come from the text (e.g. a literal "[SEP]"). The unknown token
    is maskable because it represents a piece of the text. `word_index` is -1 and offsets are (0, 0) exactly at tokens
    that are not maskable.
    """

    digest: str
    """64 hex digits that identify text, tokenizer and settings; the name of the cache file."""
    lengths: IntArray
    """int64 [n_blocks]: number of tokens per block, including special tokens."""
    context_ids: IntArray
    """int64 [n_blocks]: index of each block's text."""
    padding_id: int
    """Token id that pads shorter blocks of a batch."""

    def __init__(
        self, digest: str, batches: Iterable[pa.RecordBatch], padding_id: int, cache_dir: Path | None = None
    ) -> None:
        """Create a corpus from record batches.

        Args:
            digest: see `Corpus.digest`.
            batches: record batches with the schema `cutting.SCHEMA`.
            padding_id: see `Corpus.padding_id`.
            cache_dir: folder of the cache; None means the default.
        """
        self.digest = digest
        self._cache_dir = cache_dir or default_cache_dir(None)
        self._parts = [_Part.of(batch) for batch in batches]
        self.padding_id = padding_id
        nothing = np.empty(0, dtype=np.int64)
        self.lengths = np.concatenate([nothing, *(np.diff(part.offsets) for part in self._parts)])
        self.context_ids = np.concatenate([nothing, *(part.context_ids for part in self._parts)])
        self._first_blocks = np.cumsum([0, *(len(part.context_ids) for part in self._parts)])
        self._kept: IntArray | None = None

    @classmethod
    def build(
        cls,
        texts: Collection[str],
        tokenizer: "PreTrainedTokenizerBase",
        block_size: int,
        cache_dir: Path,
        progress: Progress | None = None,
    ) -> "Corpus":
        """Tokenise and cut `texts`, or map the file that an earlier call wrote to `cache_dir`.

        `texts` is iterated over more than once, with only a few texts in memory at a time. A damaged cache file is
        written again.

        Args:
            texts: the documents of the corpus.
            tokenizer: a fast tokenizer with a padding token.
            block_size: maximum number of tokens per block, excluding special tokens.
            cache_dir: folder of the cache.
            progress: called with (texts done, total texts).

        Returns:
            The corpus, memory-mapped.

        Raises:
            UserError: if no text has a maskable token, if the tokenizer is not fast or has no padding token, or if
                `cache_dir` cannot be written.
        """
        padding_id = SpecialTokens.of(tokenizer).padding
        digest = _digest(texts, tokenizer, block_size)
        path = cache_dir / f"{digest}.arrow"
        batches = read_batches(path, digest)
        if batches is None:
            if path.exists():
                _log.warning("%s is damaged or has another format. The corpus is tokenised again.", path)
            n_texts = len(texts)
            cut = cut_texts(texts, tokenizer, block_size, lambda done: progress(done, n_texts) if progress else None)
            write_batches(path, digest, _some(cut, texts))
            batches = read_batches(path, digest)
            if batches is None:
                raise bad_input(path, "the tokenised corpus cannot be read after it was written. Check the disk.")
        corpus = cls(digest, batches, padding_id, cache_dir)
        if not any((part.values["word_index"] != NO_POSITION).any() for part in corpus._parts):
            raise UserError(
                f"the corpus contains only special tokens ({_shown(texts)}), which cannot be masked. Give other text."
            )
        return corpus

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.lengths)

    def subset(self, block_ids: IntArray) -> "Corpus":
        """Return a corpus of only the given blocks, numbered from 0, which shares the memory of this one.

        `block_ids` is int64 [n], in ascending order. Block numbers and `digest` are those of the subset. `distinct_ids`
        and `share` remain those of the whole corpus.
        """
        part = copy.copy(self)
        part._kept = np.asarray(block_ids if self._kept is None else self._kept[block_ids], dtype=np.int64)
        part.lengths, part.context_ids = self.lengths[block_ids], self.context_ids[block_ids]
        part.digest = hashlib.sha256(self.digest.encode() + np.asarray(block_ids, dtype="<i8").tobytes()).hexdigest()
        return part

    def joined(self, other: "Corpus") -> "Corpus":
        """Return a corpus of these blocks and then those of `other`, which shares the memory of both.

        Contexts of `other` are numbered after those of this corpus.
        """
        both = copy.copy(self)
        vars(both).pop("distinct_ids", None)  # cached for this corpus alone
        both._parts = [*self._parts, *other._parts]
        n_before = self._first_blocks[-1]
        both._first_blocks = np.concatenate([self._first_blocks, n_before + other._first_blocks[1:]])
        both._kept = np.concatenate([self._all_kept, n_before + other._all_kept])
        both.lengths = np.concatenate([self.lengths, other.lengths])
        first_context = self.context_ids.max(initial=-1) + 1
        both.context_ids = np.concatenate([self.context_ids, first_context + other.context_ids])
        both.digest = hashlib.sha256(f"{self.digest} {other.digest}".encode()).hexdigest()
        return both

    @property
    def _all_kept(self) -> IntArray:
        """int64 [n_blocks]: number of each block among those of all parts."""
        return np.arange(len(self), dtype=np.int64) if self._kept is None else self._kept

    def blocks(self, block_ids: IntArray) -> TokenBlocks:
        """Return the blocks in the order of `block_ids`, padded on the right to the length of the longest.

        `block_ids` is int64 [B]; see `TokenBlocks` for the shapes of the result.
        """
        block_ids = np.asarray(block_ids, dtype=np.int64)
        lengths = self.lengths[block_ids]
        columns = np.arange(lengths.max(initial=0))
        is_token = columns < lengths[:, None]
        input_ids = np.full(is_token.shape, self.padding_id, dtype=np.int64)
        word_index = np.full(is_token.shape, NO_POSITION, dtype=np.int64)
        part_of, row_in_part = self._places(block_ids)
        for number in np.unique(part_of):
            part, rows = self._parts[number], np.flatnonzero(part_of == number)
            # [rows, T]: indices into the part's flat token columns
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
        """Return the ids of all blocks of the given contexts, int64 [n], in corpus order."""
        return np.flatnonzero(np.isin(self.context_ids, context_ids))

    @functools.cached_property
    def distinct_ids(self) -> IntArray:
        """int64 [n]: ids of all tokens in the corpus, including special tokens, in ascending order."""
        of_parts = [np.unique(part.values["input_ids"]) for part in self._parts]
        ids: IntArray = np.unique(np.concatenate([np.empty(0, np.int32), *of_parts])).astype(np.int64)
        return ids

    def share(self, token_id: int) -> float:
        """Return the fraction of the maskable tokens with id `token_id`, from 0 to 1; 0 without maskable tokens."""
        n_of_it = n_in_all = 0
        for part in self._parts:
            is_maskable = part.values["word_index"] != NO_POSITION
            n_of_it += int(np.count_nonzero(is_maskable & (part.values["input_ids"] == token_id)))
            n_in_all += int(np.count_nonzero(is_maskable))
        return n_of_it / max(n_in_all, 1)

    def beside(self, name: str) -> Path:
        """Return the path in the cache for a result computed from this corpus."""
        return self._cache_dir / f"{self.digest}.{name}"

    def text(self, block_id: int) -> str:
        """Return the block's part of its context, from its first token to its last."""
        part, row = self._place(block_id)
        text: str = part.texts[row].as_py()
        return text

    def offsets(self, block_id: int) -> IntArray:
        """Return the character span of each token in `text(block_id)`, int64 [n_tokens, 2].

        The span of a token that is not maskable is (0, 0).
        """
        part, row = self._place(block_id)
        piece = slice(part.offsets[row], part.offsets[row + 1])
        pairs: IntArray = np.stack([part.values["starts"][piece], part.values["ends"][piece]], axis=1).astype(np.int64)
        return pairs

    def _places(self, block_ids: IntArray) -> tuple[IntArray, IntArray]:
        """Return the part of each block and its row in that part, both int64 [n]."""
        block_ids = block_ids if self._kept is None else self._kept[block_ids]
        part_of = np.searchsorted(self._first_blocks, block_ids, side="right") - 1
        return part_of, block_ids - self._first_blocks[part_of]

    def _place(self, block_id: int) -> tuple[_Part, int]:
        """Return the part of a block and its row in that part."""
        (part,), (row,) = self._places(np.array([block_id]))
        return self._parts[part], int(row)


def _shown(texts: Collection[str]) -> str:
    """Return the beginning of the first text, for a message."""
    return shown(next(iter(texts), "")[:60])


def _some(batches: Iterator[pa.RecordBatch], texts: Collection[str]) -> Iterator[pa.RecordBatch]:
    """Yield the batches. Raises EmptyCorpus after the last one if no batch has a row."""
    is_empty = True
    for batch in batches:
        is_empty = is_empty and batch.num_rows == 0
        yield batch
    if is_empty:
        reason = "all are blank"
        if written := next((text for text in texts if text.strip()), None):
            reason = (
                f"the tokenizer drops every character, for example those of {shown(written[:60])}. "
                "Give text in a script that the tokenizer knows."
            )
        raise EmptyCorpus(f"the {len(texts)} texts of the corpus have no tokens: {reason}")


def _digest(texts: Collection[str], tokenizer: "PreTrainedTokenizerBase", block_size: int) -> str:
    """Return the digest of texts, tokenizer and block size (`Corpus.digest`)."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {block_size} {len(texts)}\n".encode())
    for text in chain([fingerprint(tokenizer)], texts):
        content = text.encode()
        digest.update(len(content).to_bytes(8, "little"))  # so that ["ab", "c"] and ["a", "bc"] differ
        digest.update(content)
    return digest.hexdigest()
