"""A corpus on the disk: read and tokenised a little at a time, and the same as one in memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from nmg.base.errors import UserError
from nmg.data.corpus import Corpus
from nmg.data.cutting import cut_texts, text_batches
from nmg.data.formats.text import Texts, read_texts

TEXTS = [f"The cat number {number} sat on the mat." for number in range(50)]


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(TEXTS) + "\n")
    return path


def test_texts_on_the_disk(corpus_file: Path):
    texts = read_texts(corpus_file)
    assert isinstance(texts, Texts)
    assert (list(texts), len(texts)) == (TEXTS, 50)
    assert list(texts) == TEXTS, "they can be read again"
    assert TEXTS[7] in texts
    assert "no" not in texts


def same(one: Corpus, other: Corpus) -> bool:
    ids = np.random.default_rng(0).permutation(len(one))
    left, right = one.blocks(ids), other.blocks(ids)
    tensors = all(torch.equal(getattr(left, name), getattr(right, name)) for name in vars(left))
    details = all(
        one.text(block) == other.text(block) and (one.offsets(block) == other.offsets(block)).all() for block in ids
    )
    return tensors and details and one.digest == other.digest and (one.lengths == other.lengths).all()


@pytest.mark.parametrize("at_once", [1, 7, 256])
def test_in_many_batches_it_is_the_same_corpus(
    at_once: int, tokenizer: PreTrainedTokenizerBase, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = Corpus.build(TEXTS, tokenizer, 6, corpus_file.parent / "whole")
    monkeypatch.setattr("nmg.data.cutting.TEXTS_AT_ONCE", at_once)
    monkeypatch.setattr("nmg.data.cutting.TOKENS_AT_ONCE", 40)
    told: list[tuple[int, int]] = []
    folder = corpus_file.parent / "parts"
    parts = Corpus.build(read_texts(corpus_file), tokenizer, 6, folder, lambda *steps: told.append(steps))
    assert same(whole, parts)
    assert told[-1] == (50, 50)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert same(whole, Corpus.build(read_texts(corpus_file), tokenizer, 6, folder)), "from the cache"


def test_a_long_text_is_not_tokenised_beside_many_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nmg.data.cutting.CHARACTERS_AT_ONCE", 10)
    assert list(text_batches(["a" * 12, "b", "c" * 9, "d"])) == [["a" * 12], ["b", "c" * 9], ["d"]]


def test_a_mistake_far_into_the_file_leaves_nothing_behind(tokenizer: PreTrainedTokenizerBase, tmp_path: Path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "one"}\n' * 300 + '{"body": "two"}\n')
    texts = read_texts(path)
    with pytest.raises(UserError, match=r"corpus\.jsonl, line 301, field 'text': is missing"):
        Corpus.build(texts, tokenizer, 6, tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_no_more_is_read_than_a_batch_holds(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch):
    """Memory does not grow with the text (`benchmarks/tokenising.py` measures it): a batch is there before the next."""
    monkeypatch.setattr("nmg.data.cutting.TEXTS_AT_ONCE", 4)
    monkeypatch.setattr("nmg.data.cutting.TOKENS_AT_ONCE", 60)
    n_read = 0

    def texts() -> Iterator[str]:
        nonlocal n_read
        for text in TEXTS:
            n_read += 1
            yield text

    read_at = []
    for batch in cut_texts(texts(), tokenizer, 6):
        assert sum(len(ids) for ids in batch.column("input_ids").to_pylist()) < 300
        read_at.append(n_read)
    assert len(read_at) > 3
    assert read_at[0] <= 12
    assert read_at == sorted(read_at)
    assert read_at[-1] == len(TEXTS)
