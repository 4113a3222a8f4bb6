"""Against a reference written another way: no regular expressions, no Counter."""

import json
import unicodedata
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmg.tasks.squad_metrics import exact_match, f1, normalize_answer, normalize_characters, scores_1, scores_2

XQUAD = Path(__file__).parents[3] / "shared/data/xquad/xquad.en.json"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def slow_words(text: str) -> list[str]:
    kept = [character for character in text.lower() if character not in PUNCTUATION]
    runs = ["".join(run) for _, run in groupby(kept, key=lambda c: c.isalnum() or c == "_")]
    return "".join(" " if run in ("a", "an", "the") else run for run in runs).split()


def slow_exact_match(prediction: str, answers: list[str]) -> float:
    return 1.0 if any(slow_words(prediction) == slow_words(answer) for answer in answers) else 0.0


def slow_f1(prediction: str, answers: list[str]) -> float:
    best = 0.0
    for answer in answers:
        rest, words, shared = slow_words(answer), slow_words(prediction), 0
        n_words = len(words) + len(rest)
        for word in words:
            if word in rest:
                rest.remove(word)
                shared += 1
        best = max(best, 2 * shared / n_words if n_words else 0.0)
    return best


CASES = [
    ("The Broncos", ["Denver Broncos", "the broncos!"]),
    ("", ["308"]),
    ("", [""]),
    ("the", ["an", "x"]),
    ("a a the U.S. Army's", ["us armys", "US"]),
    ("theory of an antheap", ["theory antheap", "the ory"]),
    ("Zürich – naïve «a» café", ["zürich naïve café", "ZÜRICH – NAÏVE «» CAFÉ"]),
    ("b b b c", ["b c c", "b"]),
    ("10,000 men\u00a0and a\u2003half", ["10000 men and half"]),
    ("a\u0301 the\u0301", ["\u0301"]),
    ("İstanbul", ["i̇stanbul"]),
]


@pytest.mark.parametrize(("prediction", "answers"), CASES)
def test_metrics_equal_the_slow_reference(prediction: str, answers: list[str]) -> None:
    assert exact_match(prediction, answers) == slow_exact_match(prediction, answers)
    assert f1(prediction, answers) == pytest.approx(slow_f1(prediction, answers), abs=1e-12)


def test_metrics_by_hand() -> None:
    assert normalize_answer("An  apple, the pear\tand a_b") == "apple pear and ab"
    assert exact_match("the Panthers.", ["Panthers"]) == 1.0
    assert exact_match("Panther", ["Panthers", "the panthers"]) == 0.0
    # 2 shared words of 3 predicted and 2 accepted: P = 2/3, R = 1
    assert f1("big red dog", ["cat", "the red dog"]) == pytest.approx(0.8)
    # as in version 1.1: nothing in common is 0, though both are empty
    assert (exact_match("the", [""]), f1("the", [""])) == (1.0, 0.0)


words = st.sampled_from(["a", "an", "the", "A", "The", "fox", "Fox", "foxes", "é", "ü.", "-", "_", "'s", "3", "\u0301"])
texts = st.one_of(
    st.text(max_size=20), st.lists(words, max_size=6).map(" ".join), st.lists(words, max_size=6).map("".join)
)


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_metrics_equal_the_slow_reference_on_any_text(prediction: str, answers: list[str]) -> None:
    assert exact_match(prediction, answers) == slow_exact_match(prediction, answers)
    assert f1(prediction, answers) == pytest.approx(slow_f1(prediction, answers), abs=1e-12)


@pytest.mark.skipif(not XQUAD.exists(), reason=f"{XQUAD.name} is not beside the repository")
def test_metrics_equal_the_slow_reference_on_xquad() -> None:
    articles = json.loads(XQUAD.read_text(encoding="utf-8"))["data"]
    n_perfect, n_partial = 0, 0
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        for question in paragraph["qas"]:
            answers = [answer["text"] for answer in question["answers"]]
            start = question["answers"][0]["answer_start"]
            # made predictions: the answer itself, and it with what stands around it
            wider = paragraph["context"][max(0, start - 15) : start + len(answers[0]) + 5]
            for prediction in (answers[0], f"The {answers[0].upper()}.", wider):
                assert exact_match(prediction, answers) == slow_exact_match(prediction, answers)
                assert f1(prediction, answers) == pytest.approx(slow_f1(prediction, answers), abs=1e-12)
            n_perfect += exact_match(f"The {answers[0].upper()}.", answers) == 1.0
            n_partial += 0 < f1(wider, answers) < 1
    assert n_perfect > 1000
    assert n_partial > 1000


HAN = [(0x4E00, 0x9FA5)]


def slow_mlqa_words(text: str) -> list[str]:
    """As MLQA's evaluation goes for Chinese: Han characters and punctuation are words, the rest is split at spaces."""
    kept = [c for c in text.lower() if unicodedata.category(c)[0] != "P" and c not in PUNCTUATION]
    words, run = [], ""
    for character in kept:
        if any(first <= ord(character) <= last for first, last in HAN):
            words += [*run.split(), character]
            run = ""
        else:
            run += character
    return [*words, *run.split()]


@given(
    st.lists(st.sampled_from(["天", "气", "好", "，", "。", " ", "2008", "the", "A-b", "年", "é"]), max_size=8).map(
        "".join
    )
)
def test_characters_are_those_of_mlqa(text: str):
    assert normalize_characters(text).split() == slow_mlqa_words(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("天气很好", ["天", "气", "很", "好"]),
        ("東京タワー。", ["東", "京", "タ", "ワ", "ー"]),
        ("ภาษาไทย", ["ภ", "า", "ษ", "า", "ไ", "ท", "ย"]),
        ("ที่ A", ["ที่", "a"]),  # marks stay with their letter
        ("U.S. 2008年", ["us", "2008", "年"]),
        ("서울 시", ["서울", "시"]),  # Korean has spaces
        ("", []),
    ],
)
def test_characters_by_hand(text: str, words: list[str]):
    assert normalize_characters(text).split() == words


def test_f1_in_a_script_without_spaces():
    answer, longer = "天气很好", ["天气很好啊"]
    assert f1(answer, longer) == 0.0
    assert f1(answer, longer, normalize_characters) == pytest.approx(8 / 9)
    assert exact_match("天气，很好。", [answer], normalize_characters) == 1.0
    assert scores_1(answer, longer, normalize_characters) == pytest.approx((0.0, 8 / 9))
    assert scores_2(answer, longer, normalize_characters) == pytest.approx((0.0, 8 / 9))
    assert scores_2("", [], normalize_characters) == (1.0, 1.0)
    assert scores_1(answer, []) == (0.0, 0.0)
