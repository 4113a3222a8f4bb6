"""Reads questions with their passages as rows of Parquet, JSON or JSON Lines, and SQuAD as published on the hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmg.base.errors import bad_input, shown
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import NO_CONTEXT, name_field, string_field, text_value
from nmg.data.formats.tables import read_records


def is_row(record: Mapping[str, Any]) -> bool:
    """Return whether the record is one question with its passage, rather than a passage with its questions."""
    return "question" in record and "context" in record and "qas" not in record


def read_question_rows(path: Path) -> list[QAExample]:
    """Return the questions of rows with `id`, `question`, `context` and `answers`, in file order.

    `answers` is {"text": [...], "answer_start": [...]} or SQuAD's list of {"text": ..., "answer_start": ...}. A
    question has no answer if the lists are empty or if it is marked `is_impossible`. The row number replaces a missing
    id and is appended to a duplicate one. Raises UserError with row and field for a missing field, or if the
    context does not contain an answer at its start.
    """
    examples: dict[str, QAExample] = {}
    for row, record in read_records(path):
        context = string_field(record, "context", path, line=row)
        texts, starts = _answers(record.get("answers"), context, path, row)
        if record.get("is_impossible") is True:
            texts, starts = (), ()
        identity = name_field(record, "id", path, line=row) if record.get("id") is not None else str(row)
        if identity in examples:
            identity = f"{identity}#{row}"
        question = string_field(record, "question", path, line=row)
        examples[identity] = QAExample(identity, question, context, texts, starts, NO_CONTEXT)
    if not examples:
        raise bad_input(path, "contains no questions")
    return list(examples.values())


def _answers(value: Any, context: str, path: Path, row: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the answers of a row.

    Args:
        value: content of the field `answers`.
        context: the text that contains the answers.
        path: the file, for messages.
        row: row number from 1, for messages.

    Returns:
        The texts of the answers, and their starts in characters.

    Raises:
        UserError: if the field is invalid or the context does not contain an answer at its start.
    """
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        value = {name: [one.get(name) for one in value] for name in ("text", "answer_start")}
    lists = [value.get(name) for name in ("text", "answer_start")] if isinstance(value, dict) else []
    if not lists or not all(isinstance(one, list) for one in lists):
        raise bad_input(path, "must contain the lists 'text' and 'answer_start'", line=row, field="answers")
    texts = tuple(text_value(text, path, line=row, field="answers") for text in value["text"])
    starts = tuple(value["answer_start"])
    if len(texts) != len(starts):
        raise bad_input(path, f"has {len(texts)} texts but {len(starts)} starts", line=row, field="answers")
    for text, start in zip(texts, starts, strict=True):
        found = context[start : start + len(text)] if type(start) is int and start >= 0 else None
        if found != text:
            problem = f"the context has {shown(found)} at {shown(start)}, but the answer is {shown(text)}"
            raise bad_input(path, problem, line=row, field="answers")
    return texts, starts
