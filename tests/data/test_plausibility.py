"""Doubts about data that can be read; none about plausible data."""

from pathlib import Path

import pytest

from nmg.data.formats.tokens import TokenExample
from nmg.data.notices import warn_once
from nmg.data.plausibility import invisible_doubts, label_doubts, tag_doubts, text_doubts, unknown_doubts


@pytest.mark.parametrize(
    ("texts", "begin"),
    [
        (['{"text": "a"}', '{"text": "b"}'], "its texts are JSON"),
        (['[{"a": 1}]'], "its texts are JSON"),
        (["{", ' "text": "a"', "}"], "its texts are JSON"),
        (["<p>one</p>", "<!DOCTYPE html>", "</div>"], "its texts are markup"),
        (["17", "18 ", "19"], "nearly all its texts are numbers"),
        (["Rome\tB-LOC"] * 30, "its texts have 2 columns separated by tabs"),
    ],
)
def test_texts_that_are_no_running_text(texts: list[str], begin: str):
    (doubt,) = text_doubts(texts)
    assert doubt.startswith(begin)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["{see above}", "[1] A citation.", "[1, 2]", "{}{"],
        ["<<Aspirin>> inhibits [[COX-1]].", "< 5 mg/l", "<3 this"],
        ["17 patients", "17", "one"],
        ["one\ttab", *["none"] * 30],
        ["[" * 5000],
    ],
)
def test_running_text(texts: list[str]):
    assert text_doubts(texts) == []


def test_only_the_first_texts_are_looked_at():
    texts = iter(["text"] * 10_000)
    text_doubts(texts)
    assert len(list(texts)) == 9800


def test_texts_that_nobody_can_see():
    texts = {"3": "\u200d \ufe0f", "9": "a", "12": "\u0301", "15": "\u4f60", "20": "\u00a7 \u200d"}
    examples = [TokenExample(line, (text,), ("O",), -1) for line, text in texts.items()]
    assert invisible_doubts(examples[1:2]) == []
    (doubt,) = invisible_doubts(examples)
    assert doubt.startswith("examples '3', '12' have no visible character")
    assert invisible_doubts(examples[:1])[0].startswith("example '3' has no visible character")


def test_labels():
    assert label_doubts(["x", "y"] * 20 + ["z"]) == []
    assert label_doubts([str(number) for number in range(15)]) == [], "too few to say"
    (doubt,) = label_doubts([f"id-{number}" for number in range(15)] + ["x"] * 10)
    assert doubt.startswith("25 texts have 16 different labels, which may be ids")
    assert label_doubts(["Pos", "pos", "neg"]) == [
        "the labels 'Pos', 'pos' differ only in upper and lower case, but count as different classes"
    ]


def test_tags():
    sentences = [("Rome", "is", "old"), ("In", "1999")] * 10
    assert tag_doubts(sentences, ["LOC", "DATE"] * 30) == []
    assert tag_doubts([("1999",)], ["DATE"]) == []
    assert tag_doubts([("1", "2", "3")] * 2, ["LOC"])[0].startswith("nearly all its words are numbers")
    assert tag_doubts([("a",) * 1000], ["LOC"])[0].startswith("all 1000 words are one sentence")
    assert tag_doubts(sentences, ["location", "location,B-group", "group"]) == [
        "1 of 3 entity types combine several tags ('location,B-group') and count as separate types"
    ]
    assert tag_doubts(sentences, [f"T{number}" for number in range(20)])[0].startswith("20 entities have 20 different")


def test_unknown_tokens():
    assert unknown_doubts(0.04, "[UNK]") == []
    (doubt,) = unknown_doubts(0.604, "[UNK]")
    assert doubt.startswith("60% of the tokens of the text are [UNK], unknown to this model's tokenizer")


def test_a_warning_is_given_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    for share in (60, 61):
        warn_once(tmp_path, f"{share} % are unknown", topic="unknown")
    for _ in range(2):
        warn_once(tmp_path, "an escape: \x1b[2J")
    assert caplog.messages == [f"warning: {tmp_path}: 60 % are unknown", f"warning: {tmp_path}: an escape: \\x1b[2J"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    warn_once(tmp_path, "another")
    assert len(caplog.messages) == 2
