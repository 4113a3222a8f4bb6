"""Questions on passages as rows of a table: Parquet, and SQuAD as the hub has it."""

from pathlib import Path
from typing import Any

from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import NO_CONTEXT, name_field, string_field, text_value
from nmg.data.formats.tables import read_records
from nmg.errors import bad_input, shown


def read_question_rows(path: Path) -> list[QAExample]:
    """The questions of rows with `id`, `question`, `context` and `answers`, {"text": [...], "answer_start": [...]}.

    A question with empty lists has no answer. Raises UserError with row and field for fields that are missing and for
    an answer that does not stand in its context at its start.
    """
    examples = []
    for row, record in read_records(path):
        context = string_field(record, "context", path, line=row)
        texts, starts = _answers(record.get("answers"), context, path, row)
        identity = name_field(record, "id", path, line=row) if "id" in record else str(row)
        question = string_field(record, "question", path, line=row)
        examples.append(QAExample(identity, question, context, texts, starts, NO_CONTEXT))
    if not examples:
        raise bad_input(path, "holds no questions")
    return examples


def _answers(value: Any, context: str, path: Path, row: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    lists = [value.get(name) for name in ("text", "answer_start")] if isinstance(value, dict) else []
    if not lists or not all(isinstance(one, list) for one in lists):
        raise bad_input(path, "must hold the lists 'text' and 'answer_start'", line=row, field="answers")
    texts = tuple(text_value(text, path, line=row, field="answers") for text in value["text"])
    starts = tuple(value["answer_start"])
    if len(texts) != len(starts):
        raise bad_input(path, f"has {len(texts)} texts and {len(starts)} starts", line=row, field="answers")
    for text, start in zip(texts, starts, strict=True):
        found = context[start : start + len(text)] if type(start) is int and start >= 0 else None
        if found != text:
            problem = f"the context has {shown(found)} at {shown(start)}, the answer is {shown(text)}"
            raise bad_input(path, problem, line=row, field="answers")
    return texts, starts
