"""Words and text from ids alone are those of the tokenizer."""

from pathlib import Path

import numpy as np
import pytest

from nmg.collation.recovery import Recovery
from nmg.collation.rows import RowReader
from nmg.data.corpus import Corpus
from support.families import FAMILIES, SCRIPTS, family
from support.tiny import word_tokenizer


@pytest.mark.parametrize("name", FAMILIES)
def test_words_are_those_of_a_corpus(name: str, tmp_path: Path):
    tokenizer = family(name)
    corpus = Corpus.build(SCRIPTS, tokenizer, 500, tmp_path)
    expected = corpus.blocks(np.arange(len(corpus)))
    reader = RowReader(tokenizer, None)
    blocks = reader.blocks(reader.rows([{"input_ids": tokenizer(text)["input_ids"]} for text in SCRIPTS]))
    for column in ("input_ids", "is_token", "is_maskable", "word_index"):
        assert getattr(blocks, column).equal(getattr(expected, column)), column


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_of_several_texts_has_the_words_of_all(name: str):
    """As scripts for language modelling pack them: texts one after the other, special tokens between."""
    tokenizer = family(name)
    recovery = Recovery(tokenizer)
    texts = [np.array(tokenizer(text)["input_ids"]) for text in SCRIPTS[:3]]
    together = recovery.rows([np.concatenate(texts)])[0]
    apart = recovery.rows(texts)
    shift = 0
    for part, found in zip(np.split(together.word_index, np.cumsum([len(t) for t in texts])[:-1]), apart, strict=True):
        assert np.array_equal(part, np.where(found.word_index >= 0, found.word_index + shift, -1))
        shift += found.word_index.max() + 1


@pytest.mark.parametrize("name", FAMILIES)
def test_characters_are_those_of_the_tokens(name: str):
    tokenizer = family(name)
    ids = np.array(tokenizer(SCRIPTS[0])["input_ids"])
    found = Recovery(tokenizer).rows([ids])[0]
    for token, (start, end) in zip(ids, found.offsets, strict=True):
        piece = tokenizer.convert_tokens_to_string([tokenizer.convert_ids_to_tokens(int(token))]).strip()
        if start < end and piece:  # a boundary alone has the character behind it
            assert found.text[start:end].strip() == piece.removeprefix("##")


@pytest.mark.parametrize("name", FAMILIES)
def test_words_of_a_row_that_begins_and_ends_in_the_midst_of_a_word(name: str):
    """Blocks that were cut anywhere: inner words stay whole, and every token has one."""
    tokenizer = family(name)
    encoding = tokenizer(SCRIPTS[0], add_special_tokens=False)
    ids, words = np.array(encoding["input_ids"]), encoding.encodings[0].word_ids
    inside = next(n for n in range(1, len(ids)) if words[n] == words[n - 1])
    found = Recovery(tokenizer).rows([ids[inside:-1]])[0].word_index
    assert (found >= 0).all()
    assert (np.diff(found) >= 0).all()
    expected = np.unique(words[inside:-1], return_inverse=True)[1]
    if name != "SentencePiece":  # there "," may stand with the word before it, and the marks part them
        assert np.array_equal(found, expected)


def test_unknown_words_and_words_without_pieces():
    tokenizer = word_tokenizer(["aspirin", "inhibits"])
    ids = np.array(tokenizer("aspirin xyzzy inhibits")["input_ids"])
    assert Recovery(tokenizer).rows([ids])[0].word_index.tolist() == [-1, 0, 1, 2, -1]


def test_rows_without_a_text():
    tokenizer = word_tokenizer(["aspirin"])
    found = Recovery(tokenizer).rows([np.array([2, 3]), np.array([], dtype=np.int64)])
    assert [row.word_index.tolist() for row in found] == [[-1, -1], []]
