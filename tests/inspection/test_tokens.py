"""The flat table: every maskable token once, its word, its characters."""

from pathlib import Path

import numpy as np
import pytest

from nmg.inspection.tokens import TokenTable

from .helpers import corpus_of, table_of

TEXTS = ["The cats sat.", "cat\n\n [SEP] cattys"]


def test_the_table_by_hand(tmp_path: Path):
    table = table_of(TEXTS, tmp_path)
    # The · cat · ##s · sat · . | cat · cat · ##ty · ##s      ([SEP] is in the text, and not maskable)
    assert table.n_blocks == 2
    assert table.bounds.tolist() == [0, 5, 9]
    assert table.sizes.tolist() == [5, 4]
    assert table.block.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert table.place.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert table.word.tolist() == [0, 1, 1, 2, 3, 4, 5, 5, 5]
    assert table.starts_word.tolist() == [True, True, False, True, True, True, True, False, False]
    assert table.pieces.tolist() == [1, 2, 1, 1, 1, 3]
    assert list(table.words()) == ["The", "cats", "sat", ".", "cat", "cattys"]
    assert [table.texts[b][start:end] for b, (start, end) in zip(table.block, table.spans, strict=True)] == (
        ["The", "cat", "s", "sat", ".", "cat", "cat", "ty", "s"]
    )


def test_long_texts_are_several_blocks_and_no_token_is_lost(tmp_path: Path):
    table = table_of(["the cats sat on the mat", "dog"], tmp_path, block_size=3)
    assert table.context_ids.tolist() == [0, 0, 0, 1]
    assert [part.tolist() for part in table.by_block(table.word)] == [[0, 1, 1], [2, 3, 4], [5], [6]]
    assert list(table.words()) == ["the", "cats", "sat", "on", "the", "mat", "dog"]


def test_rows_of_blocks_in_the_order_asked_for(tmp_path: Path):
    table = table_of(["the cat", "dog", "sat on mat"], tmp_path)
    assert table.rows(np.array([2, 0])).tolist() == [3, 4, 5, 0, 1]
    assert table.rows(np.array([], dtype=np.int64)).tolist() == []


def test_a_text_without_maskable_tokens_has_no_rows(tmp_path: Path):
    table = table_of(["the", "[SEP]", "cat"], tmp_path)
    assert table.sizes.tolist() == [1, 0, 1]
    assert table.rows(np.array([0, 1, 2])).tolist() == [0, 1]
    assert list(table.words()) == ["the", "cat"]


def test_white_space_is_no_part_of_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Some tokenizers count the space before a word to it; a token of nothing but space keeps one character."""
    corpus = corpus_of(["the  cat dog sat"], tmp_path)
    spans = np.array([[0, 0], [0, 3], [3, 8], [8, 12], [12, 13], [0, 0]])
    monkeypatch.setattr(corpus, "offsets", lambda _block: spans)
    assert TokenTable.of(corpus).spans.tolist() == [[0, 3], [5, 8], [9, 12], [12, 13]]
