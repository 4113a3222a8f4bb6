"""A part of a corpus behaves as a corpus of its own."""

from pathlib import Path

import numpy as np
import torch

from nmg.data.corpus import Corpus
from support.tiny import word_tokenizer

TEXTS = [f"a{number} b{number} c{number} d{number}" for number in range(6)]
WORDS = [word for text in TEXTS for word in text.split()]


def corpus_of(texts: list[str], folder: Path) -> Corpus:
    return Corpus.build(texts, word_tokenizer(WORDS), 2, folder)


def test_a_part_has_the_blocks_of_the_whole_under_new_numbers(tmp_path: Path):
    whole = corpus_of(TEXTS, tmp_path)
    rows = np.array([1, 4, 5, 10])
    part = whole.subset(rows)
    assert len(part) == 4
    assert part.context_ids.tolist() == [0, 2, 2, 5]
    assert [part.text(number) for number in range(4)] == ["c0 d0", "a2 b2", "c2 d2", "a5 b5"]
    assert np.array_equal(part.offsets(1), whole.offsets(4))
    ours, theirs = part.blocks(np.array([3, 0])), whole.blocks(np.array([10, 1]))
    assert ours.block_ids.tolist() == [3, 0]
    for name in ("context_ids", "input_ids", "is_token", "is_maskable", "word_index"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert part.blocks_of(np.array([2])).tolist() == [1, 2]


def test_a_part_of_a_part(tmp_path: Path):
    whole = corpus_of(TEXTS, tmp_path)
    part = whole.subset(np.arange(3, 12)).subset(np.array([0, 8]))
    assert [part.text(number) for number in range(2)] == [whole.text(3), whole.text(11)]


def test_what_is_kept_beside_a_part_is_its_own(tmp_path: Path):
    whole = corpus_of(TEXTS, tmp_path)
    names = {whole.beside("idf"), whole.subset(np.arange(4)).beside("idf"), whole.subset(np.arange(1, 5)).beside("idf")}
    assert len(names) == 3
    assert whole.subset(np.arange(4)).digest == whole.subset(np.arange(4)).digest
