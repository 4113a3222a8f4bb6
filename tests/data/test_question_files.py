"""Questions as repositories and annotation tools have them: without ids, as rows or lists, as JSON Lines, SubjQA."""

import csv
import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmg.base.errors import UserError
from nmg.base.settings import DataSettings
from nmg.data.formats.question_files import read_question_json, read_question_lines, read_question_table
from nmg.data.formats.questions import QAExample
from nmg.tasks.load import guess_task, read_examples

Write = Callable[[str, str], Path]
CONTEXT = "The pump has two valves. The outer valve closes at 3 bar."
ANSWER = {"text": "at 3 bar", "answer_start": 48}
ROW = {
    "id": "1",
    "context": CONTEXT,
    "question": "When?",
    "answers": {"text": ["at 3 bar"], "answer_start": [48]},
}
PARAGRAPH = {"context": CONTEXT, "qas": [{"id": "1", "question": "When?", "answers": [ANSWER]}]}
EXAMPLE = QAExample("1", "When?", CONTEXT, ("at 3 bar",), (48,), -1)


def message(read: Callable[..., Any], path: Path) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    return str(error.value).removeprefix(str(path))


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"title": "t", "paragraphs": [PARAGRAPH]}]},
        {"data": [PARAGRAPH]},
        {"data": [ROW]},
        {"version": "0.1.0", "data": [ROW | {"answers": [ANSWER]}]},
        [{"title": "t", "paragraphs": [PARAGRAPH]}],
        [PARAGRAPH],
        [ROW],
        ROW,
        PARAGRAPH,
    ],
    ids=lambda content: json.dumps(content)[:30],
)
def test_one_question_however_it_is_wrapped(content: Any, write: Write):
    for text in (json.dumps(content), json.dumps(content, indent=1)):
        path = write("a.json", text)
        assert read_question_json(path) == [EXAMPLE]
        kind = guess_task(path)
        assert kind.name == "qa"
        assert read_examples(path, kind, DataSettings(task="qa")) == [EXAMPLE]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
def test_json_lines(name: str, tmp_path: Path):
    rows = [ROW, ROW | {"id": 2}, {key: value for key, value in ROW.items() if key != "id"}]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    kind = guess_task(tmp_path / name)
    assert kind.name == "qa"
    examples = read_examples(tmp_path / name, kind, DataSettings(task="qa"))
    assert [example.id for example in examples] == ["1", "2", "3"]


def test_mrqa_under_the_name_json(write: Write):
    question = {"qid": "1", "question": "When?", "detected_answers": [{"text": "at 3 bar", "char_spans": [[48, 55]]}]}
    lines = [{"header": {"dataset": "T"}}, {"context": CONTEXT, "qas": [question]}]
    assert read_question_json(write("a.json", "\n".join(map(json.dumps, lines)))) == [EXAMPLE]


def test_ids_are_made_for_questions_without(write: Write):
    question = {"question": "When?", "answers": [ANSWER]}
    paragraph = {"context": CONTEXT, "qas": [question, question | {"id": None}, question | {"id": "x"}]}
    read = read_question_json(write("a.json", json.dumps({"data": [{"paragraphs": [paragraph]}]})))
    place = "data[0].paragraphs[0].qas"
    assert [example.id for example in read] == [f"{place}[0]", f"{place}[1]", "x"]
    read = read_question_json(write("b.json", json.dumps([paragraph])))
    assert [example.id for example in read] == ["[0].qas[0]", "[0].qas[1]", "x"]
    detected = {"question": "When?", "detected_answers": [{"text": "at 3 bar", "char_spans": [[48, 55]]}]}
    read = read_question_lines(write("c.jsonl", json.dumps({"context": CONTEXT, "qas": [detected, detected]})))
    assert [example.id for example in read] == ["1.qas[0]", "1.qas[1]"]


def test_a_repeated_id_of_rows_gets_the_number_of_its_row(write: Write):
    read = read_question_json(write("a.json", json.dumps([ROW, ROW])))
    assert [example.id for example in read] == ["1", "1#2"]


def test_rows_without_an_answer(write: Write):
    rows = [ROW | {"answers": {"text": [], "answer_start": []}}, ROW | {"answers": []}, ROW | {"is_impossible": True}]
    for row in rows:
        assert read_question_json(write("a.json", json.dumps([row])))[0].answers == ()


def test_the_place_in_a_list_is_said(write: Write):
    paragraph = PARAGRAPH | {"qas": [{"id": "1", "question": "When?", "answers": [ANSWER | {"answer_start": "48"}]}]}
    assert message(read_question_json, write("a.json", json.dumps([paragraph]))).startswith(
        ", field '[0].qas[0].answers[0].answer_start': question '1': must be a character offset, not '48'"
    )


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_labelled_texts_are_no_questions(name: str, write: Write):
    path = write(name, '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    read = read_question_json if name == "a.json" else read_question_lines
    assert message(read, path) == (
        ": contains no questions: no SQuAD's 'paragraphs', NewsQA's 'questions', or rows with 'question', 'context' "
        "and 'answers' (found: 'text', 'label'). For labelled texts set --data.task classification "
        "(in nmg data: --task classification)."
    )
    kind = guess_task(path)
    assert kind.name == "classification"
    assert len(read_examples(path, kind, DataSettings())) == 2


def test_a_list_of_labelled_rows_is_read_as_such(write: Write):
    path = write("a.json", '[{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]')
    kind = guess_task(path)
    assert kind.name == "classification"
    assert len(read_examples(path, kind, DataSettings())) == 2
    assert "contains no questions" in message(read_question_json, path)


# ---- SubjQA

REVIEW = "The food is fine (really). I liked the wine."


def subjqa(path: Path, *rows: tuple[str, str, str]) -> Path:
    """(q_review_id, human_ans_spans, human_ans_indices) of each row."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["item_id", "domain", "q_review_id", "question", "review", "human_ans_spans", "human_ans_indices"]
        )
        for identity, span, indices in rows:
            review = f"{REVIEW} ANSWERNOTFOUND"
            writer.writerow(["B0", "food", identity, f"How is {identity}?", review, span, indices])
    return path


def test_subjqa(tmp_path: Path):
    path = subjqa(
        tmp_path / "dev.csv",
        ("food", "is fine ( really )", "(9, 25)"),
        ("wine", "ANSWERNOTFOUND", "(45, 59)"),
        ("food", "ANSWERNOTFOUND", "(45, 59)"),
        ("food", "The food is fine", "(0, 16)"),
        ("food", "The food is fine", "(0, 16)"),
    )
    assert guess_task(path).name == "qa"
    assert read_question_table(path) == [
        QAExample("food", "How is food?", REVIEW, ("is fine (really)", "The food is fine"), (9, 0), -1),
        QAExample("wine", "How is wine?", REVIEW, (), (), -1),
    ]


def test_subjqa_leaves_out_what_its_review_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = subjqa(tmp_path / "a.csv", ("food", "is fine", "(9, 16)"), ("wine", "good wine", "(27, 43)"))
    with caplog.at_level(logging.WARNING):
        assert [example.id for example in read_question_table(path)] == ["food"]
    assert "questions whose answers are not in their review are left out: 1" in caplog.text
    none = subjqa(tmp_path / "none.csv", ("wine", "good wine", "(27, 43)"))
    assert message(read_question_table, none) == ": contains no question with an answer in its review"


def test_what_is_wrong_with_subjqa(tmp_path: Path):
    path = subjqa(tmp_path / "a.csv", ("food", "is fine", "9-16"))
    assert message(read_question_table, path) == (
        ", line 2, field 'human_ans_indices': must be '(first, end)' in characters, not '9-16'"
    )


def test_other_tables_hold_no_questions(write: Write):
    assert message(read_question_table, write("a.csv", "context,question\na,b\n")) == (
        ": has no column 'answer_char_ranges' of NewsQA or 'human_ans_indices' of SubjQA. Write other questions as "
        ".json rows with 'question', 'context' and 'answers'."
    )
