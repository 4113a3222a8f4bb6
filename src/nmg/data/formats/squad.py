"""Reads and writes questions in the JSON of SQuAD 1.1 and 2.0."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from nmg.base.errors import bad_input, shown
from nmg.base.files import write_text
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import (
    NO_CONTEXT,
    list_field,
    name_field,
    parse_json,
    read_text,
    string_field,
    top_members,
)


def read_squad(path: Path) -> list[QAExample]:
    """Return the questions in file order. Questions marked `is_impossible`, as in SQuAD 2.0, have no answer.

    A question without an id uses its place as id. The list of articles, or of paragraphs alone, is `data` or the whole
    document. Raises UserError for an invalid structure, a duplicate question id, a question without answers, or an
    answer that the context does not contain at `answer_start`. The error names the path of the field, e.g.
    `data[0].paragraphs[3].qas[2].answers[0].answer_start`, or line and column for invalid JSON.
    """
    return squad_examples(parse_json(read_text(path), path), path)


def squad_examples(content: Any, path: Path) -> list[QAExample]:
    """Return the questions of a parsed document; see `read_squad`."""
    examples = []
    places_of_ids: dict[str, str] = {}
    for paragraph_place, paragraph in _paragraphs(content, path):
        context = string_field(paragraph, "context", path, place=f"{paragraph_place}.context")
        for place, question in list_field(paragraph, "qas", path, place=paragraph_place):
            example = _question(question, context, path, place)
            if example.id in places_of_ids:
                problem = f"'{example.id}' is also the id of {places_of_ids[example.id]}"
                raise bad_input(path, problem, field=f"{place}.id")
            places_of_ids[example.id] = place
            examples.append(example)
    if not examples:
        raise bad_input(path, "contains no questions")
    return examples


def _paragraphs(content: Any, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, paragraph) for each paragraph. Some annotation tools write paragraphs without articles."""
    for place, member in top_members(content, path):
        if "qas" in member:
            yield place, member
        else:
            yield from list_field(member, "paragraphs", path, place=place)


def write_squad(examples: Sequence[QAExample], path: Path) -> None:
    """Write the examples, with one paragraph per sequence of examples with the same context."""
    paragraphs = [
        {"context": context, "qas": [_as_json(example) for example in group]}
        for context, group in groupby(examples, key=lambda example: example.context)
    ]
    version = "1.1" if all(example.answers for example in examples) else "v2.0"
    content = {"version": version, "data": [{"title": path.stem, "paragraphs": paragraphs}]}
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def _as_json(example: QAExample) -> dict[str, Any]:
    """Return a question as SQuAD's JSON object."""
    answers = [
        {"text": text, "answer_start": start}
        for text, start in zip(example.answers, example.answer_starts, strict=True)
    ]
    question = {"id": example.id, "question": example.question, "answers": answers}
    return question if answers else question | {"is_impossible": True}


def _question(question: Mapping[str, Any], context: str, path: Path, place: str) -> QAExample:
    """Check a question's answers and return its example.

    Args:
        question: the JSON object of the question.
        context: the text that contains the answers.
        path: the file, for messages.
        place: full name of the question, for messages and ids.

    Returns:
        The example.

    Raises:
        UserError: if a field is invalid, or if there is no answer and the question is not `is_impossible`.
    """
    identity = place if question.get("id") is None else name_field(question, "id", path, place=f"{place}.id")
    answers = [
        _answer(answer, context, path, answer_place, identity)
        for answer_place, answer in list_field(question, "answers", path, place=place)
    ]
    if question.get("is_impossible") is True:
        answers = []
    elif not answers:
        problem = f"question '{identity}' has no answer. If its context contains none, mark it \"is_impossible\": true."
        raise bad_input(path, problem, field=f"{place}.answers")
    return QAExample(
        id=identity,
        question=string_field(question, "question", path, place=f"{place}.question"),
        context=context,
        answers=tuple(text for text, _ in answers),
        answer_starts=tuple(start for _, start in answers),
        context_id=NO_CONTEXT,
    )


def _answer(answer: Mapping[str, Any], context: str, path: Path, place: str, question_id: str) -> tuple[str, int]:
    """Return the text of an answer and its start.

    Args:
        answer: the JSON object of the answer.
        context: the text that contains the answer.
        path: the file, for messages.
        place: full name of the answer, for messages.
        question_id: id of the question, for messages.

    Returns:
        The text, and its start in the context, in characters.

    Raises:
        UserError: if the context does not contain the text at `answer_start`.
    """
    text = string_field(answer, "text", path, place=f"{place}.text")
    start = answer.get("answer_start")
    field = f"{place}.answer_start"
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise bad_input(path, f"question '{question_id}': must be a character offset, not {shown(start)}", field=field)
    found = context[start : start + len(text)]
    if found != text:
        there = f"the context has {shown(found)} at {shown(start)}"
        raise bad_input(path, f"question '{question_id}': {there}, but the answer is {shown(text)}", field=field)
    return text, start
