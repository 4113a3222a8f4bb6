"""Phrases are found longest first, from the left, in any spelling."""

import numpy as np
import pytest
import torch

from nmg.masking.phrases import Phrases, Words, joined
from support.english import english_tokenizer
from support.families import FAMILIES, family

from .helpers import random_blocks, word_blocks, word_piece_tokenizer

VOCABULARY = ["heart", "attack", "heal", "##th", "risk", "the", "Heart", "HEART", "ATTACK"]
TOKENIZER = word_piece_tokenizer(VOCABULARY)
BLOCKS_OF = {word: number for number, word in enumerate(VOCABULARY, start=6)}


def test_the_longest_phrase_wins_and_its_words_share_a_number_and_a_value() -> None:
    phrases = Phrases.of({"heart attack": 5.0, "heart": 2.0, "heart attack risk": 7.0, "health": 3.0}, TOKENIZER)
    ids = [BLOCKS_OF[word] for word in ("the", "heart", "attack", "heal", "##th", "heart", "attack", "risk", "heart")]
    unit, value = phrases.find(word_blocks([[1, 1, 1, 2, 1, 1, 1, 1]], [ids]), 1.0)
    assert value[0, 1:-1].tolist() == [1.0, 5.0, 5.0, 3.0, 3.0, 7.0, 7.0, 7.0, 2.0]
    numbers = unit[0].tolist()
    assert numbers[0] == numbers[-1] == -1
    assert numbers[2] == numbers[3]
    assert numbers[6] == numbers[7] == numbers[8]
    assert len(set(numbers[1:-1])) == 5
    assert sorted(numbers[1:-1]) == numbers[1:-1]


def test_phrases_do_not_reach_over_blocks_or_gaps() -> None:
    phrases = Phrases.of({"heart attack": 5.0}, TOKENIZER)
    ids = [[BLOCKS_OF["the"], BLOCKS_OF["heart"]], [BLOCKS_OF["attack"], BLOCKS_OF["the"]]]
    _, value = phrases.find(word_blocks([[1, 1], [1, 1]], ids), 0.0)
    assert value.sum() == 0
    gap = word_blocks([[1, 1, 1]], [[BLOCKS_OF["heart"], BLOCKS_OF["the"], BLOCKS_OF["attack"]]])
    gap.is_maskable[0, 2] = False
    assert phrases.find(gap, 0.0)[1].sum() == 0


def test_spellings() -> None:
    phrases = Phrases.of({"heart attack": 5.0}, TOKENIZER)
    for words in (("Heart", "attack"), ("HEART", "ATTACK"), ("heart", "attack")):
        _, value = phrases.find(word_blocks([[1, 1]], [[BLOCKS_OF[word] for word in words]]), 0.0)
        assert value[0, 1:-1].tolist() == [5.0, 5.0], words


CASED = word_piece_tokenizer(["US", "us", "Us", "May", "may", "uS"])


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"US": 5.0, "us": 0.0}, {"US": 5.0, "us": 0.0, "Us": 0.0}),
        ({"May": 5.0, "may": 0.1}, {"May": 5.0, "may": 0.1}),
        ({"US": 5.0}, {"US": 5.0, "us": 5.0}),
        ({"US": 5.0, "uS": 2.0}, {"US": 5.0, "uS": 2.0, "us": 5.0}),
    ],
)
def test_a_spelling_that_was_given_has_its_own_value(values: dict[str, float], expected: dict[str, float], order: int):
    """Whatever the order of the file."""
    phrases = Phrases.of(dict(list(values.items())[::order]), CASED)
    ids = CASED.convert_tokens_to_ids(list(expected))
    _, value = phrases.find(word_blocks([[1] * len(ids)], [ids]), 1.0)
    assert value[0, 1:-1].tolist() == list(expected.values())


@pytest.mark.parametrize("order", [1, -1])
def test_words_that_a_tokenizer_writes_the_same_have_the_largest_value(
    order: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = dict(list({"Aspirin": 5.0, "aspirin": 0.5, "drug": 2.0}.items())[::order])
    tokenizer = english_tokenizer()
    ids = tokenizer("aspirin drug", add_special_tokens=False)["input_ids"]
    n = len(tokenizer.tokenize("aspirin"))
    _, value = Phrases.of(values, tokenizer).find(word_blocks([[n, len(ids) - n]], [ids]), 1.0)
    assert value[0, 1:-1].tolist() == [5.0] * n + [2.0] * (len(ids) - n)
    assert "the largest value" in caplog.text
    caplog.clear()
    Phrases.of({"aspirin": 0.5, "drug": 2.0}, tokenizer)
    assert not caplog.text


@pytest.mark.parametrize("name", FAMILIES)
def test_a_word_is_found_at_the_start_and_behind_a_space(name: str) -> None:
    from nmg.collation.rows import RowReader

    tokenizer = family(name)
    reader = RowReader(tokenizer, None)
    blocks = reader.blocks(reader.rows(["dose known dose", "Dose"]))
    _, value = Phrases.of({"dose": 2.0}, tokenizer).find(blocks, 1.0)
    for b, words in enumerate([[True, False, True], [True]]):
        found = {
            int(w): bool((value[b][blocks.word_index[b] == w] == 2.0).all()) for w in blocks.word_index[b] if w >= 0
        }
        assert list(found.values()) == words


def test_no_phrases_leave_words() -> None:
    blocks = random_blocks(5)
    unit, value = Phrases.of({}, TOKENIZER).find(blocks, 1.0)
    assert (value == 1.0).all()
    for b in range(len(blocks)):
        same = blocks.word_index[b] >= 0
        pairs = set(zip(blocks.word_index[b][same].tolist(), unit[b][same].tolist(), strict=True))
        assert len(pairs) == len({word for word, _ in pairs}) == len({number for _, number in pairs})
    assert unit[blocks.word_index < 0].eq(-1).all()


def test_ngrams_are_those_of_a_slow_search() -> None:
    blocks = random_blocks(6, n_words=12)
    words = Words.of(blocks)
    for n, (keys, is_whole) in enumerate(words.ngrams(4), start=1):
        for place in range(len(words.keys)):
            row = words.rows[place : place + n]
            whole = len(row) == n and (row == row[0]).all()
            assert bool(is_whole[place]) == bool(whole)
            if whole:
                key = words.keys[place : place + 1]
                for later in range(1, n):
                    key = joined(key, words.keys[place + later : place + later + 1])
                assert keys[place] == key[0]
    assert joined(np.array([1], np.uint64), np.array([2], np.uint64)) != joined(
        np.array([2], np.uint64), np.array([1], np.uint64)
    )


def test_blocks_without_a_word() -> None:
    blocks = word_blocks([[], []])
    unit, value = Phrases.of({"heart": 2.0}, TOKENIZER).find(blocks, 1.0)
    assert unit.eq(-1).all()
    assert value.shape == blocks.input_ids.shape
    assert value.dtype == torch.float64
