"""Reads and writes questions in the JSONL of the MRQA 2019 shared task, plain or compressed (.gz)."""

import gzip
import json
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from nmg.base.errors import bad_input, shown
from nmg.base.files import write_aside
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import NO_CONTEXT, list_field, name_field, read_json_lines, string_field


def read_mrqa(path: Path) -> list[QAExample]:
    """Return the questions in file order. A `header` in the first line is skipped.

    A question without a `qid` gets an id that consists of its line number and its place in the line. Its answers are
    all spans in `detected_answers`, as written in the context. Predictions are scored against the texts in `answers`,
    as in the official evaluation, or against the spans if there are no `answers`.

    Raises UserError with line and field for an invalid structure, a duplicate question id, a question without detected
    answers, a span outside the context, or a span whose text differs from the answer in more than case, white space and
    Unicode form.
    """
    examples = []
    lines_of_ids: dict[str, int] = {}
    for number, (line, record) in enumerate(read_json_lines(path)):
        if number == 0 and "header" in record and "context" not in record:
            continue
        context = string_field(record, "context", path, line=line)
        for place, question in list_field(record, "qas", path, line=line):
            example = _question(question, context, path, line, place)
            if example.id in lines_of_ids:
                problem = f"'{example.id}' is also the id of a question in line {lines_of_ids[example.id]}"
                raise bad_input(path, problem, line=line, field=f"{place}.qid")
            lines_of_ids[example.id] = line
            examples.append(example)
    if not examples:
        raise bad_input(path, "contains no questions")
    return examples


def write_mrqa(examples: Sequence[QAExample], path: Path) -> None:
    """Write a header and one line per sequence of examples with the same context; compressed if `path` ends in .gz.

    Raises UserError for a question without answers, which the format does not support.
    """
    for example in examples:
        if not example.answers:
            raise bad_input(
                path, f"question '{example.id}' has no answer, which MRQA does not allow. Write a .json file."
            )
    lines: list[dict[str, Any]] = [{"header": {"dataset": path.name.partition(".")[0]}}]
    for context, group in groupby(examples, key=lambda example: example.context):
        lines.append({"context": context, "qas": [_as_json(example) for example in group]})
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    with write_aside(path) as aside:
        aside.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _as_json(example: QAExample) -> dict[str, Any]:
    """Return a question as MRQA's JSON object."""
    spans: dict[str, list[list[int]]] = {}
    for text, start in zip(example.answers, example.answer_starts, strict=True):
        spans.setdefault(text, []).append([start, start + len(text) - 1])
    return {
        "qid": example.id,
        "question": example.question,
        "answers": list(dict.fromkeys(example.accepted)),
        "detected_answers": [{"text": text, "char_spans": places} for text, places in spans.items()],
    }


def _question(question: Mapping[str, Any], context: str, path: Path, line: int, place: str) -> QAExample:
    """Check a question's answers and return its example.

    Args:
        question: the JSON object of the question.
        context: the text that contains the answers.
        path: the file, for messages.
        line: line number from 1, for messages and ids.
        place: full name of the question in the line, e.g. `qas[2]`.

    Returns:
        The example.

    Raises:
        UserError: if a field is invalid, or if no answer is in the context.
    """
    identity = f"{line}.{place}"
    if question.get("qid") is not None:
        identity = name_field(question, "qid", path, line=line, place=f"{place}.qid")
    answers: dict[tuple[str, int], None] = {}  # an ordered set
    for answer_place, answer in list_field(question, "detected_answers", path, line=line, place=place):
        text = string_field(answer, "text", path, line=line, place=f"{answer_place}.text")
        for start, end in _spans(answer, context, path, line, answer_place):
            found = context[start:end]
            if _normal(found) != _normal(text):
                problem = (
                    f"question '{identity}': the context has {shown(found)} there, but the answer is {shown(text)}"
                )
                raise bad_input(path, problem, line=line, field=f"{answer_place}.char_spans")
            answers[found, start] = None
    if not answers:
        problem = f"question '{identity}' has no answer in its context"
        raise bad_input(path, problem, line=line, field=f"{place}.detected_answers")
    spans = tuple(text for text, _ in answers)
    return QAExample(
        id=identity,
        question=string_field(question, "question", path, line=line, place=f"{place}.question"),
        context=context,
        answers=spans,
        answer_starts=tuple(start for _, start in answers),
        context_id=NO_CONTEXT,
        accepted_texts=_accepted(question, spans, path, line, place),
    )


def _accepted(
    question: Mapping[str, Any], spans: tuple[str, ...], path: Path, line: int, place: str
) -> tuple[str, ...]:
    """Return the distinct texts in a question's field `answers`.

    Args:
        question: the JSON object of the question.
        spans: texts of the answer spans.
        path: the file, for messages.
        line: line number from 1, for messages.
        place: full name of the question in the line, for messages.

    Returns:
        The texts; empty if the field is missing or has exactly the texts in `spans`.

    Raises:
        UserError: if the field is not a list of strings.
    """
    texts = question.get("answers", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise bad_input(path, "must be a list of texts", line=line, field=f"{place}.answers")
    return () if set(texts) == set(spans) else tuple(dict.fromkeys(texts))


def _spans(answer: Mapping[str, Any], context: str, path: Path, line: int, place: str) -> list[tuple[int, int]]:
    """Return the character spans of an answer.

    Args:
        answer: the JSON object of the answer; its spans have an inclusive end.
        context: the text that contains the answer.
        path: the file, for messages.
        line: line number from 1, for messages.
        place: full name of the answer in the line, for messages.

    Returns:
        Start and end (exclusive) of each span, in characters.

    Raises:
        UserError: if a span is invalid or outside the context.
    """
    field = f"{place}.char_spans"
    spans = answer.get("char_spans")
    if not isinstance(spans, list):
        raise bad_input(path, "is missing or not a list", line=line, field=field)
    for span in spans:
        is_pair = isinstance(span, list) and len(span) == 2 and all(type(offset) is int for offset in span)
        if not is_pair or not 0 <= span[0] <= span[1] < len(context):
            problem = f"{shown(span)} is not a [first, last] span of a context of {len(context)} characters"
            raise bad_input(path, problem, line=line, field=field)
    return [(first, last + 1) for first, last in spans]


def _normal(text: str) -> str:
    """Return the text without white space, case and compatibility variants (NFKC), for comparison."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
