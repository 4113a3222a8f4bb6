"""SQuAD 2.0, NewsQA (CSV and JSON), emrQA, and rows: hand-written samples, and what can be wrong with them."""

import csv
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from nmg.base.errors import UserError
from nmg.data.formats.mrqa import write_mrqa
from nmg.data.formats.newsqa import read_newsqa_csv
from nmg.data.formats.question_files import read_question_json
from nmg.data.formats.question_rows import read_question_rows
from nmg.data.formats.questions import QAExample
from nmg.data.formats.squad import write_squad

Write = Callable[[str, str], Path]


def message(read: Callable[..., Any], path: Path) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    return str(error.value).removeprefix(str(path))


# ---- SQuAD 2.0


SQUAD_2 = {
    "version": "v2.0",
    "data": [
        {
            "paragraphs": [
                {
                    "context": "Rome is old.",
                    "qas": [
                        {"id": "1", "question": "Which?", "answers": [{"text": "Rome", "answer_start": 0}]},
                        {"id": "2", "question": "Who?", "is_impossible": True, "answers": [], "plausible_answers": []},
                    ],
                }
            ]
        }
    ],
}
ANSWERED = [
    QAExample("1", "Which?", "Rome is old.", ("Rome",), (0,), -1),
    QAExample("2", "Who?", "Rome is old.", (), (), -1),
]


def test_squad_2(write: Write, tmp_path: Path):
    assert read_question_json(write("a.json", json.dumps(SQUAD_2))) == ANSWERED
    write_squad(ANSWERED, tmp_path / "b.json")
    assert read_question_json(tmp_path / "b.json") == ANSWERED
    assert json.loads((tmp_path / "b.json").read_text())["version"] == "v2.0"


def test_no_answer_must_be_said(write: Write):
    text = json.dumps(SQUAD_2).replace("true", "false")
    assert message(read_question_json, write("a.json", text)) == (
        ", field 'data[0].paragraphs[0].qas[1].answers': question '2' has no answer. If its context contains none, "
        'mark it "is_impossible": true.'
    )


def test_mrqa_has_no_such_questions(tmp_path: Path):
    with pytest.raises(UserError, match="question '2' has no answer, which MRQA does not allow"):
        write_mrqa(ANSWERED, tmp_path / "a.jsonl")


# ---- NewsQA

STORY = "Hyrule (Contoso) -- Tingle made \n\nthe magic words himself.\nDon't steal them!"
START = STORY.index("magic words")
NEWSQA = {
    "version": "1",
    "data": [
        {
            "storyId": "./contoso/1",
            "text": STORY,
            "type": "train",
            "questions": [
                {"q": "What did Tingle make?", "consensus": {"s": START, "e": START + 12}, "answers": []},
                {"q": "Where is he?", "consensus": {"noAnswer": True}},
                {"q": "Tingle?", "consensus": {"badQuestion": True}},
            ],
        },
        {
            "storyId": "./contoso/2",
            "text": STORY,
            "type": "dev",
            "questions": [{"q": "Who?", "consensus": {"s": 20, "e": 26}}],
        },
    ],
}
MAGIC = QAExample("./contoso/1#0", "What did Tingle make?", STORY, ("magic words",), (START,), -1)
WHERE = QAExample("./contoso/1#1", "Where is he?", STORY, (), (), -1)
WHO = QAExample("./contoso/2#0", "Who?", STORY, ("Tingle",), (20,), -1)


def test_newsqa_json(write: Write):
    path = write("combined.json", json.dumps(NEWSQA))
    assert read_question_json(path) == [MAGIC, WHERE, WHO]
    assert read_question_json(path.with_name("combined.json@train")) == [MAGIC, WHERE]
    assert read_question_json(path.with_name("combined.json@dev")) == [WHO]
    assert message(read_question_json, path.with_name("combined.json@no")).endswith(
        "combined.json: contains no questions"
    )


def test_only_newsqa_has_parts(write: Write):
    path = write("a.json", json.dumps(SQUAD_2))
    assert "has no part 'train', because only NewsQA's JSON has parts" in message(
        read_question_json, Path(f"{path}@train")
    )


@pytest.mark.parametrize(
    ("consensus", "problem"),
    [
        (None, "field 'data[0].questions[0].consensus': is missing or not an object"),
        ({}, "characters None to None are not in a story of"),
        ({"s": 3, "e": 999}, "characters 3 to 999 are not in a story of"),
        ({"s": 32, "e": 33}, "characters 32 to 33 are white space"),
    ],
)
def test_what_is_wrong_with_newsqa_json(consensus: Any, problem: str, write: Write):
    content = json.loads(json.dumps(NEWSQA))
    content["data"][0]["questions"][0]["consensus"] = consensus
    assert problem in message(read_question_json, write("a.json", json.dumps(content)))


def newsqa_csv(*rows: tuple[str, str, str], bad: str = "0.0", story: str = STORY) -> str:
    """(question, answer_char_ranges, validated_answers) of each row."""
    file = io.StringIO()
    names = "story_id,question,answer_char_ranges,is_answer_absent,is_question_bad,validated_answers,story_text"
    writer = csv.DictWriter(file, names.split(","))
    writer.writeheader()
    for question, ranges, validated in rows:
        shared = {"story_id": "./1", "is_answer_absent": "0.0", "is_question_bad": bad, "story_text": story}
        writer.writerow(shared | {"question": question, "answer_char_ranges": ranges, "validated_answers": validated})
    return file.getvalue()


@pytest.mark.parametrize(
    ("ranges", "validated", "answer"),
    [
        ("20:27", "", "Tingle"),
        ("20:26|0:6|0:6,20:26|None|20:26", "", "Tingle"),  # all ranges of a worker count
        ("20:26,0:6|0:6|27:31,0:6", "", "Hyrule"),
        ("20:26|0:6", "", "Tingle"),  # as many: the first
        ("20:26|20:26|0:6", '{"0:6": 2, "none": 1}', "Hyrule"),  # validators alone decide
        ("None|None|20:26", '{"20:26": 2, "none": 1}', "Tingle"),
        ("20:26|20:26", '{"0:6": 1, "none": 1}', "Hyrule"),  # half of the votes are enough
        ("20:26|20:26", '{"0:6": 1, "none": 1, "27:31": 1}', None),  # a third is not
        ("", '{"0:6": 2, "none": 1}', "Hyrule"),
        ("20:26|None|None", "", None),
        ("20:26", '{"none": 2}', None),
    ],
)
def test_newsqa_csv_has_the_official_consensus(ranges: str, validated: str, answer: str | None, write: Write):
    (example,) = read_newsqa_csv(write("a.csv", newsqa_csv(("Who?", ranges, validated))))
    starts = () if answer is None else (STORY.index(answer),)
    assert example == QAExample("./1#2", "Who?", STORY, () if answer is None else (answer,), starts, -1)


@pytest.mark.parametrize("bad", ["0.67", "?", ""])
def test_newsqa_csv_leaves_bad_questions_out(bad: str, write: Write):
    path = write("a.csv", newsqa_csv(("Who", "20:26", '{"bad_question": 2}'), ("Who?", "20:26", ""), bad=bad))
    assert [example.question for example in read_newsqa_csv(path)] == ["Who?"]


def test_newsqa_csv_leaves_emptied_ranges_out(write: Write, caplog: pytest.LogCaptureFixture):
    path = write("a.csv", newsqa_csv(("Who", "", ""), ("Who?", "20:26", "")))
    with caplog.at_level(logging.WARNING):
        assert [example.question for example in read_newsqa_csv(path)] == ["Who?"]
    assert "questions whose answer ranges were all removed are left out: 1" in caplog.text


def test_newsqa_offsets_are_those_of_folded_stories(write: Write, tmp_path: Path):
    rows = [("What?", f"{START}:{START + 11}", "")]
    text = newsqa_csv(*rows, story=STORY.replace("\n", "\r\n"))
    (tmp_path / "crlf.csv").write_bytes(text.encode())
    (example,) = read_newsqa_csv(tmp_path / "crlf.csv")
    assert (example.context, example.answers) == (STORY, ("magic words",))


def test_ranges_inside_words_are_warned_of(write: Write, caplog: pytest.LogCaptureFixture):
    right = ("Who?", "20:26", "")
    with caplog.at_level(logging.WARNING):
        assert len(read_newsqa_csv(write("a.csv", newsqa_csv(right, ("What?", "22:26", ""))))) == 2
    assert "1 of 2 answers begin or end inside a word, like 'ngle' of question './1#6' ('What?')" in caplog.text


def test_shifted_ranges_are_refused(write: Write):
    shifted = message(read_newsqa_csv, write("a.csv", newsqa_csv(("Who?", "22:25", ""), ("Who?", "22:26", ""))))
    assert "2 of 2 answers begin or end inside a word, like 'ngl'" in shifted
    assert "Create the file again" in shifted
    content = json.loads(json.dumps(NEWSQA))
    content["data"][0]["questions"][0]["consensus"] = {"s": START + 2, "e": START + 8}
    content["data"][1]["questions"][0]["consensus"] = {"s": 22, "e": 26}
    assert "2 of 2 answers begin or end inside a word" in message(
        read_question_json, write("a.json", json.dumps(content))
    )


def test_split_files_of_newsqa_are_refused_with_advice(write: Write):
    path = write("train.csv", "story_id,story_text,question,answer_token_ranges\n./1,Rome is old.,Who?,0:1\n")
    assert message(read_newsqa_csv, path).endswith("Give combined-newsqa-data-v1.csv, which counts them.")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            ("Who?", "20-26", ""),
            ", line 2, field 'answer_char_ranges': '20-26' must be first:end in characters, or None",
        ),
        (("Who?", "20:2600", ""), ", line 2, field 'answer_char_ranges': characters 20 to 2600 are not in a story"),
        (("Who?", "20:26", "{"), ", line 2, field 'validated_answers': is not valid JSON"),
        (("Who?", "20:26", "[3]"), ", line 2, field 'validated_answers': must map choices to counts, not [3]"),
        (("", "20:26", ""), ", line 2, field 'question': is empty"),
    ],
)
def test_what_is_wrong_with_newsqa_csv(row: tuple[str, str, str], problem: str, write: Write):
    assert message(read_newsqa_csv, write("a.csv", newsqa_csv(row))).startswith(problem)


# ---- emrQA

LINES = ["Admission 3:\n", "aspirin 81 mg daily\n", "No fever.\n", "aspirin  81 mg\n", "daily at home"]


def emrqa(**changes: Any) -> dict[str, Any]:
    answer = {"text": "81 mg", "evidence": "aspirin 81 mg daily", "evidence_start": 4, "answer_start": [4, 1]}
    question = {"id": [["x"]], "question": ["What dose?", "How much aspirin?"], "answers": [answer | changes]}
    note = {"note_id": "7", "context": LINES, "qas": [question]}
    return {"data": [{"title": "medication", "paragraphs": [note]}]}


def test_emrqa(write: Write):
    examples = read_question_json(write("data.json", json.dumps(emrqa())))
    context = "".join(LINES)
    start = context.index("aspirin  81")
    assert [example.question for example in examples] == ["What dose?", "How much aspirin?"]
    assert len({example.id for example in examples}) == 2
    for example in examples:
        assert example.context == context
        assert (example.answers, example.answer_starts) == (("aspirin  81 mg\ndaily",), (start,))


def test_emrqa_takes_the_evidence_nearest_to_its_line(write: Write):
    (example, _) = read_question_json(write("data.json", json.dumps(emrqa(evidence_start=2))))
    assert example.answers == ("aspirin 81 mg daily",)
    content = emrqa(evidence_start=2)
    content["data"][0]["paragraphs"][0]["context"] = [line.removesuffix("\n") for line in LINES]
    assert read_question_json(write("lines.json", json.dumps(content)))[0] == example
    content["data"][0]["paragraphs"][0]["context"] = "".join(LINES)
    assert read_question_json(write("text.json", json.dumps(content)))[0] == example


def test_emrqa_counts_characters_in_the_part_on_risk(write: Write):
    lines = ["BP 150/90", "x " * 40, "BP 150/90", "end"]
    content = emrqa(evidence="BP 150/90", evidence_start=3)
    content["data"][0] |= {"title": "risk-dataset"}
    content["data"][0]["paragraphs"][0]["context"] = lines
    assert read_question_json(write("risk.json", json.dumps(content)))[0].answer_starts == (0,)
    content["data"][0]["title"] = "medication"
    assert read_question_json(write("lines.json", json.dumps(content)))[0].answer_starts == (91,)
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["evidence_start"] = 5  # more than there are lines
    assert read_question_json(write("beyond.json", json.dumps(content)))[0].answer_starts == (0,)


@pytest.mark.parametrize(
    "lost",
    [
        {"evidence": "aspirin 82 mg"},
        {"answer_entity_type": "complex"},
        {"evidence": "", "evidence_start": "", "answer_start": "", "text": "on"},  # a class, as of obesity and smoking
        {"evidence": None, "text": "81 mg"},
    ],
)
def test_emrqa_leaves_out_what_its_note_lacks(lost: dict[str, str], write: Write, caplog: pytest.LogCaptureFixture):
    content = emrqa(**lost)
    assert "contains no question with its evidence" in message(read_question_json, write("a.json", json.dumps(content)))
    content["data"] += emrqa()["data"]
    with caplog.at_level(logging.WARNING):
        assert len(read_question_json(write("a.json", json.dumps(content)))) == 2
    assert "questions without evidence in their note are left out: 2 of 4" in caplog.text


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("context", [1], ", field 'data[0].paragraphs[0].context': must be a text or a list of lines"),
        ("qas", None, ", field 'data[0].paragraphs[0].qas': is missing or not a list"),
    ],
)
def test_what_is_wrong_with_emrqa(name: str, value: Any, problem: str, write: Write):
    content = emrqa()
    content["data"][0]["paragraphs"][0][name] = value
    if name == "qas":
        content["data"][0]["paragraphs"][0]["context"] = LINES
    assert message(read_question_json, write("a.json", json.dumps(content))) == problem


# ---- rows


def test_rows_of_parquet(tmp_path: Path):
    answers = [{"text": list(e.answers), "answer_start": list(e.answer_starts)} for e in ANSWERED]
    columns = {name: [getattr(e, name) for e in ANSWERED] for name in ("id", "question", "context")}
    parquet.write_table(pa.table(columns | {"answers": answers}), tmp_path / "a.parquet")
    assert read_question_rows(tmp_path / "a.parquet") == ANSWERED


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ("Rome", ", line 1, field 'answers': must contain the lists 'text' and 'answer_start'"),
        ({"text": ["Rome"], "answer_start": []}, ", line 1, field 'answers': has 1 texts but 0 starts"),
        (
            {"text": ["Oslo"], "answer_start": [0]},
            ", line 1, field 'answers': the context has 'Rome' at 0, but the answer is",
        ),
    ],
)
def test_what_is_wrong_with_rows(answers: Any, problem: str, tmp_path: Path):
    row = {"id": ["1"], "question": ["Which?"], "context": ["Rome is old."], "answers": [answers]}
    parquet.write_table(pa.table(row), tmp_path / "a.parquet")
    assert message(read_question_rows, tmp_path / "a.parquet").startswith(problem)
