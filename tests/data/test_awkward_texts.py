"""Line breaks, marks, emoji and offsets as people's files have them: read right, or named with their place."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nmg.base.errors import UserError
from nmg.data.formats.classification import ClassificationExample, read_classification, write_classification
from nmg.data.formats.mrqa import read_mrqa, write_mrqa
from nmg.data.formats.questions import QAExample
from nmg.data.formats.squad import read_squad, write_squad
from nmg.data.formats.text import read_texts

Write = Callable[[str, str], Path]


def message(read: Callable[..., Any], path: Path) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    return str(error.value).removeprefix(str(path))


def squad(context: str, answer: str, start: int) -> str:
    question = {"id": "q", "question": "Which?", "answers": [{"text": answer, "answer_start": start}]}
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": [question]}]}]})


CRLF = "One.\r\nTwo.\r\nThree valves.\r\n"


def test_line_breaks_in_a_passage_count_as_they_are(write: Write):
    start = CRLF.index("Three")
    (example,) = read_squad(write("a.json", squad(CRLF, "Three valves", start)))
    assert example.context == CRLF
    assert example.context[start:].startswith(example.answers[0])
    folded = message(read_squad, write("b.json", squad(CRLF, "Three valves", start - 2)))
    assert "data[0].paragraphs[0].qas[0].answers[0].answer_start" in folded
    assert "the context has '\\r\\nThree valv' at 10, but the answer is 'Three valves'" in folded


EMOJI = "\U0001f600 naïve cafe\u0301 in Zürich"


@pytest.mark.parametrize("answer", ["\U0001f600", "naïve", "cafe\u0301", "Zürich"])
def test_offsets_are_of_characters(answer: str, write: Write):
    start = EMOJI.index(answer)
    (example,) = read_squad(write("a.json", squad(EMOJI, answer, start)))
    assert (example.answers, example.answer_starts) == ((answer,), (start,))
    if answer != "\U0001f600":  # JavaScript counts an emoji as two
        assert f"at {start + 1}, but the answer is" in message(
            read_squad, write("b.json", squad(EMOJI, answer, start + 1))
        )


def test_another_unicode_form_is_named(write: Write):
    text = squad(EMOJI, "café", EMOJI.index("cafe"))
    assert "the answer is 'café'" in message(read_squad, write("a.json", text))


def test_an_answer_that_writes_hyphens_with_spaces(write: Write):
    """MRQA's answers are tokens joined by spaces; the passage's own words are the answer."""
    context = "It blocks the 5-HT3 receptor (well-known)."
    spans = [("5 - HT3", "5-HT3"), ("well - known", "well-known")]
    detected = []
    for text, own in spans:
        first = context.index(own)
        detected.append({"text": text, "char_spans": [[first, first + len(own) - 1]]})
    line = {"context": context, "qas": [{"qid": "1", "question": "Which?", "detected_answers": detected}]}
    (example,) = read_mrqa(write("a.jsonl", json.dumps(line)))
    assert example.answers == ("5-HT3", "well-known")
    assert all(
        context[first:].startswith(text) for text, first in zip(example.answers, example.answer_starts, strict=True)
    )


def test_marks_and_separators_of_lines(tmp_path: Path):
    """A byte order mark is dropped; U+2028 and U+0085 end no line; a carriage return alone ends one in a table."""
    rows = "\ufefftext,label\r\none\u2028two,x\r\nthree\x85four,y\r\n"
    (tmp_path / "a.csv").write_bytes(rows.encode())
    assert [one.text for one in read_classification(tmp_path / "a.csv")] == ["one\u2028two", "three\x85four"]
    (tmp_path / "b.csv").write_bytes(b"text,label\rone,x\rtwo,y\r")
    assert [one.text for one in read_classification(tmp_path / "b.csv")] == ["one", "two"]
    (tmp_path / "c.jsonl").write_bytes('\ufeff{"text": "one\u2028two", "label": "x"}\n'.encode())
    assert [one.text for one in read_classification(tmp_path / "c.jsonl")] == ["one\u2028two"]
    (tmp_path / "d.csv").write_bytes(b'text,label\n"one\nline",x\n')
    assert [one.text for one in read_classification(tmp_path / "d.csv")] == ["one\nline"]


@pytest.mark.parametrize(("encoding", "problem"), [("utf-16", ": is UTF-16"), ("cp1252", ", line 2: is not UTF-8")])
def test_other_encodings_are_named(encoding: str, problem: str, tmp_path: Path):
    (tmp_path / "a.csv").write_bytes("text,label\ncafé,x\n".encode(encoding))
    assert message(read_classification, tmp_path / "a.csv").startswith(problem)


PIECES = [
    "Rome",
    "é",
    "e\u0301",
    "\U0001f600",
    "\u2028",
    "\t",
    '"',
    '""',
    ",",
    " ",
    "\n",
    "\r\n",
    "|",
    "日本",
    "\\",
    "'",
]


def texts(rng: random.Random, n: int) -> Sequence[str]:
    return ["a" + "".join(rng.choices(PIECES, k=rng.randint(0, 9))) + "z" for _ in range(n)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv"])
def test_labelled_texts_survive_a_round_trip(name: str, tmp_path: Path):
    rng = random.Random(1)
    examples = [
        ClassificationExample(str(number), text, rng.choice("xy"), -1) for number, text in enumerate(texts(rng, 200))
    ]
    write_classification(examples, tmp_path / name)
    assert read_classification(tmp_path / name) == examples


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz"])
def test_questions_survive_a_round_trip(name: str, tmp_path: Path):
    rng = random.Random(2)
    examples = []
    for number, context in enumerate(texts(rng, 200)):
        first = rng.randrange(len(context))
        answer = context[first : rng.randint(first + 1, len(context))]
        if answer.strip():
            examples.append(QAExample(str(number), "Which?", context, (answer,), (first,), -1))
    write, read = (write_squad, read_squad) if name == "a.json" else (write_mrqa, read_mrqa)
    write(examples, tmp_path / name)
    assert read(tmp_path / name) == examples


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("One sentence.", ["One sentence."]),
        ("one endless line " * 40, ["one endless line " * 40]),
        ("One.\n\n\nTwo.\n", ["One.", "Two."]),
        ("One.\r\nTwo.\r\n", ["One.", "Two."]),
        ("x", ["x"]),
    ],
)
def test_short_corpora_lose_nothing(content: str, wanted: Sequence[str], tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(content.encode())
    assert list(read_texts(tmp_path / "a.txt")) == list(wanted)
