"""A corpus of a few words and pieces of words, to check statistics by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from masking.helpers import word_piece_tokenizer
from nmg.data.corpus import Corpus
from nmg.inspection.draws import Observed
from nmg.inspection.tokens import TokenTable

PIECES = ["the", "The", "cat", "##s", "##ty", "dog", "sat", "on", "mat", ".", "42", "UK"]


def corpus_of(texts: Sequence[str], folder: Path, block_size: int = 16) -> Corpus:
    return Corpus.build(texts, word_piece_tokenizer(PIECES), block_size, folder)


def table_of(texts: Sequence[str], folder: Path, block_size: int = 16) -> TokenTable:
    return TokenTable.of(corpus_of(texts, folder, block_size))


def flat_table(*sizes: int) -> TokenTable:
    """Blocks of so many tokens; every token a word of one letter."""
    n_tokens = sum(sizes)
    starts = np.concatenate([np.arange(size) for size in sizes]) * 2
    return TokenTable(
        texts=tuple(" ".join("x" * size) for size in sizes),
        context_ids=np.arange(len(sizes)),
        bounds=np.concatenate([[0], np.cumsum(sizes)]),
        spans=np.stack([starts, starts + 1], axis=1),
        word=np.arange(n_tokens),
    )


def drawn(name: str, *counts: int, draws: int = 100) -> Observed:
    return Observed(name, f"about {name}", draws, np.array(counts))
