"""Words of a text, whatever family the tokenizer is of."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmg.data.corpus import Corpus
from nmg.data.words import word_starts
from support.encoders import tokenizer_of

FAMILIES = ("wordpiece", "sentencepiece", "byte-level")


def words_of(text: str, family: str, folder: Path) -> list[str]:
    """What stands in the text from the first token of each word to its last."""
    corpus = Corpus.build([text], tokenizer_of(family), 500, folder)
    index, offsets = corpus.blocks(np.array([0])).word_index[0].numpy(), corpus.offsets(0)
    spans = [offsets[index == word] for word in range(index.max() + 1)]
    return [corpus.text(0)[int(span[:, 0].min()) : int(span[:, 1].max())].strip() for span in spans]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello, world!", ["hello", ",", "world", "!"]),
        ("the naïve café", ["the", "naïve", "café"]),
        ("price: 1,234.50", ["price", ":", "1", ",", "234", ".", "50"]),
        ("owner-café", ["owner", "-", "café"]),
        ("we said «hello»", ["we", "said", "«", "hello", "»"]),
        ("hello 👍🏽 world", ["hello", "👍🏽", "world"]),
    ],
)
def test_words_by_hand(text: str, words: list[str], family: str, tmp_path: Path):
    assert words_of(text, family, tmp_path) == words


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("wordpiece", ["doesn", "'", "t", "know"]),
        ("byte-level", ["doesn", "'t", "know"]),
        ("sentencepiece", ["doesn't", "know"]),
    ],
)
def test_contractions_are_what_the_tokenizer_makes_of_them(family: str, words: list[str], tmp_path: Path):
    """One word where it does not say: the apostrophe of a quotation is no part of the word that it stands at."""
    assert words_of("doesn't know", family, tmp_path) == words
    assert words_of("'hello'", family, tmp_path) == ["'", "hello", "'"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", ["好天气我们喜欢。吃饭去", "ดีวันผมข้าวชอบอากาศ กินมาก"])
def test_without_spaces_each_token_is_a_word(text: str, family: str, tmp_path: Path):
    """No sentence is a word, and no mark above a letter."""
    words = words_of(text, family, tmp_path)
    assert len(words) > 6
    assert "".join(words) == text.replace(" ", "") or family == "wordpiece"  # BERT drops the marks
    tokenizer = tokenizer_of(family)
    n_tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert len(words) <= n_tokens
    assert max(map(len, words)) < 12
    assert "。" in words or "。" not in text


@pytest.mark.parametrize("family", FAMILIES)
def test_letters_and_emoji_part(family: str, tmp_path: Path):
    words = words_of("good😀😀", family, tmp_path)
    assert "".join(words) == "good😀😀"
    if family != "wordpiece":  # BERT's own rule takes a symbol that is no punctuation for a letter
        assert words[0] == "good"


texts = st.text(st.sampled_from("aé1 ,.'-我ข้า👍🏽\u200d"), max_size=20)


@given(texts, st.sampled_from(FAMILIES))
def test_the_rule_only_adds_words(text: str, family: str):
    """A word of the tokenizer's is never joined with another, and no word begins within a character."""
    encoding = tokenizer_of(family)(text, add_special_tokens=False).encodings[0]
    words = np.array([-1 if word is None else word for word in encoding.word_ids], dtype=np.int64)
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    plain = np.ones(len(words), dtype=np.bool_)
    plain[1:] = (words[1:] != words[:-1]) | (words[1:] < 0)
    found = word_starts(text, words, offsets, family == "sentencepiece")
    assert (found | ~plain).all()
    added = np.flatnonzero(found & ~plain)
    assert (offsets[added, 0] >= offsets[added - 1, 1]).all()
    if text.isascii() and family != "sentencepiece":
        assert (found == plain).all()
