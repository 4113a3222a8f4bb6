"""The maskable tokens of a corpus as one flat table, from which statistics and the page are computed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nmg.base.types import BoolArray, IntArray
from nmg.data.corpus import Corpus

Number = TypeVar("Number", bound=np.generic)

BLOCKS_AT_A_TIME = 1024


@dataclass(frozen=True)
class TokenTable:
    """N maskable tokens in reading order, in B blocks and W words; tokens of a word have the same `word_index`."""

    texts: tuple[str, ...]
    """The text of each of the B blocks."""
    context_ids: IntArray
    """int64 [B]: number of the text from which each block was cut."""
    bounds: IntArray
    """int64 [B + 1]: the tokens of block b are the rows bounds[b] … bounds[b + 1] − 1."""
    spans: IntArray
    """int64 [N, 2]: first character in the block's text and the position after the last, without leading whitespace."""
    word: IntArray
    """int64 [N]: number of the word, counted from 0 over the whole corpus."""

    @classmethod
    def of(cls, corpus: Corpus) -> "TokenTable":
        """Create the table of a corpus in one pass over batches of blocks."""
        texts = tuple(corpus.text(block_id) for block_id in range(len(corpus)))
        sizes, starts, spans = [], [], []
        for first in range(0, len(corpus), BLOCKS_AT_A_TIME):
            ids = np.arange(first, min(first + BLOCKS_AT_A_TIME, len(corpus)))
            blocks = corpus.blocks(ids)
            is_maskable = blocks.is_maskable.numpy()
            words = blocks.word_index.numpy()
            sizes.append(is_maskable.sum(axis=1))
            starts.append(_starts_word(words, is_maskable))
            for row, block_id in enumerate(ids):
                offsets = corpus.offsets(int(block_id))
                spans.append(_trimmed(texts[block_id], offsets[is_maskable[row, : len(offsets)]]))
        starts_word = np.concatenate([np.empty(0, np.bool_), *starts])
        return cls(
            texts=texts,
            context_ids=corpus.context_ids,
            bounds=np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *sizes]))]),
            spans=np.concatenate([np.empty((0, 2), np.int64), *spans]),
            word=np.cumsum(starts_word) - 1,
        )

    @property
    def n_blocks(self) -> int:
        """Number of blocks B."""
        return len(self.texts)

    @property
    def n_tokens(self) -> int:
        """Number of maskable tokens N."""
        return len(self.word)

    @cached_property
    def sizes(self) -> IntArray:
        """int64 [B]: number of maskable tokens per block."""
        return np.diff(self.bounds)

    @cached_property
    def block(self) -> IntArray:
        """int64 [N]: block of each token."""
        return np.repeat(np.arange(self.n_blocks), self.sizes)

    @cached_property
    def place(self) -> IntArray:
        """int64 [N]: number of the token within its block, counted from 0."""
        return np.arange(self.n_tokens) - self.bounds[self.block]

    @cached_property
    def starts_word(self) -> BoolArray:
        """bool [N]: True at the first token of a word."""
        return np.diff(self.word, prepend=-1) > 0

    @cached_property
    def pieces(self) -> IntArray:
        """int64 [W]: number of tokens per word."""
        return np.bincount(self.word)

    def rows(self, block_ids: IntArray) -> IntArray:
        """Return int64 [n]: the rows of the tokens of some blocks, in the order of `block_ids`."""
        sizes = self.sizes[block_ids]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows: IntArray = np.repeat(self.bounds[block_ids], sizes) + within
        return rows

    def by_block(self, column: npt.NDArray[Number]) -> list[npt.NDArray[Number]]:
        """Split a column [N, ...] into B arrays, one per block (views, no copies)."""
        return [column[first:last] for first, last in zip(self.bounds[:-1], self.bounds[1:], strict=True)]

    def words(self) -> Iterator[str]:
        """Yield the W words with their original case."""
        first = np.flatnonzero(self.starts_word)
        starts = self.spans[first, 0].tolist()
        ends = self.spans[np.append(first[1:], self.n_tokens) - 1, 1].tolist() if len(first) else []
        for block, start, end in zip(self.block[first].tolist(), starts, ends, strict=True):
            yield self.texts[block][start:end]


def _starts_word(words: IntArray, is_maskable: BoolArray) -> BoolArray:
    """Return bool [N] for the N maskable tokens: True at the first token of each word.

    `words` is int [B, T], `is_maskable` is bool [B, T].
    """
    block = np.nonzero(is_maskable)[0]
    word = words[is_maskable]
    starts: BoolArray = (np.diff(word, prepend=-1) != 0) | (np.diff(block, prepend=-1) != 0)
    return starts


def _trimmed(text: str, spans: IntArray) -> IntArray:
    """Return spans [n, 2] without leading whitespace, which some tokenizers include; one character always remains."""
    trimmed = spans.copy()
    for row, (start, end) in enumerate(spans.tolist()):
        if start < end and text[start].isspace():
            trimmed[row, 0] = end - max(len(text[start:end].lstrip()), 1)
    return trimmed
