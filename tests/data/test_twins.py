"""Texts that are the same once folded, and near duplicates, against the definition pair by pair."""

import numpy as np
import pytest

from nmg.data.near_duplicates import NEAR, folded, groups, near, near_few, resemblance, same, shingles

WORDS = np.array([f"{first}{second}" for first in "abcdefgh" for second in "aeiou"])


def test_texts_are_the_same_but_for_marks_digits_case_punctuation_and_spaces():
    assert (
        folded("<<Aspirin>>  inhibits [[COX-1]].") == folded("aspirin inhibits <<COX-2>>") == "aspirin inhibits cox 0"
    )
    assert folded("@GENE$ binds @CHEM-GENE$") == "binds"
    held_out = ["The <<drug>> binds 5 sites.", "Another text.", "Third"]
    assert same(held_out, ["the drug [[binds]] 7 sites", "third one"]).tolist() == [True, False, False]
    assert groups(["B 1", "a", "b 22", "<<A>>"]).tolist() == [0, 1, 0, 1]


def test_what_folding_would_leave_nothing_of_stays():
    assert folded(" ?!  … ") == "?! …"
    assert same(["?!", "@GENE$", ""], ["!?", "", "@CHEMICAL$"]).tolist() == [False, False, True]


def test_resemblance_by_hand():
    """One word of twenty in the middle is in 3 of 18 shingles: 15 of the 21 in all are shared."""
    text = [f"w{chr(97 + i)}" for i in range(20)]
    other = [*text[:10], "new", *text[11:]]
    assert resemblance(shingles(" ".join(text)), shingles(" ".join(other))) == pytest.approx(15 / 21)
    assert near([" ".join(text)], [" ".join(other)]).tolist() == [True]
    assert shingles("one two") == {"one two"}
    assert shingles("") == {""}


def slow(texts: list[str], others: list[str]) -> list[bool]:
    return [
        any(resemblance(shingles(folded(text)), shingles(folded(other))) >= NEAR for other in others) for text in texts
    ]


def test_near_duplicates_are_those_of_every_pair():
    rng = np.random.default_rng(0)
    originals = [rng.choice(WORDS, rng.integers(1, 40)).tolist() for _ in range(80)]

    def changed(words: list[str]) -> str:
        words = [str(rng.choice(WORDS)) if rng.random() < 0.06 else word for word in words]
        return " ".join(words[: len(words) - int(rng.integers(0, 4))])

    texts = [" ".join(words) for words in originals]
    others = [changed(words) for words in originals[:60]] + [" ".join(rng.choice(WORDS, 12)) for _ in range(40)]
    of_texts, of_others = near(texts, iter(others)), near(others, iter(texts))
    assert of_texts.tolist() == slow(texts, others)
    assert of_others.tolist() == slow(others, texts)
    assert near_few(iter(texts), others).tolist() == of_texts.tolist()
    assert near_few(iter(others), texts).tolist() == of_others.tolist()
    assert 20 < of_texts.sum() < 60


def test_one_side_may_be_empty():
    assert near(["a text"], []).tolist() == [False]
    assert near([], ["a text"]).tolist() == []
    assert near_few(["a text"], []).tolist() == [False]
    assert near_few([], ["a text"]).tolist() == []


def test_half_a_character_is_a_character():
    """A lone surrogate, which JSON may hold."""
    assert near(["drug \ud83d binds"], ["Drug \ud83d binds!"]).tolist() == [True]
