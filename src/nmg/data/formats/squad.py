"""Questions on passages in the JSON of SQuAD 1.1."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import NO_CONTEXT, list_field, name_field, parse_json, read_text, string_field
from nmg.errors import bad_input, shown
from nmg.files import write_text


def read_squad(path: Path) -> list[QAExample]:
    """The questions in file order.

    Raises UserError with the field's path in the file, e.g. `data[0].paragraphs[3].qas[2].answers[0].answer_start`, for
    broken structure, a question id used twice, a question without answers, and an answer that does not stand in its
    context at `answer_start`; with line and column for broken JSON.
    """
    content = parse_json(read_text(path), path)
    examples = []
    places_of_ids: dict[str, str] = {}
    for article_place, article in list_field(content, "data", path):
        for paragraph_place, paragraph in list_field(article, "paragraphs", path, place=article_place):
            context = string_field(paragraph, "context", path, place=f"{paragraph_place}.context")
            for place, question in list_field(paragraph, "qas", path, place=paragraph_place):
                example = _question(question, context, path, place)
                if example.id in places_of_ids:
                    problem = f"'{example.id}' is the id of {places_of_ids[example.id]} too"
                    raise bad_input(path, problem, field=f"{place}.id")
                places_of_ids[example.id] = place
                examples.append(example)
    if not examples:
        raise bad_input(path, "holds no questions")
    return examples


def write_squad(examples: Sequence[QAExample], path: Path) -> None:
    """Write the examples, one paragraph for each run of examples with the same context."""
    paragraphs = [
        {"context": context, "qas": [_as_json(example) for example in group]}
        for context, group in groupby(examples, key=lambda example: example.context)
    ]
    content = {"version": "1.1", "data": [{"title": path.stem, "paragraphs": paragraphs}]}
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def _as_json(example: QAExample) -> dict[str, Any]:
    answers = [
        {"text": text, "answer_start": start}
        for text, start in zip(example.answers, example.answer_starts, strict=True)
    ]
    return {"id": example.id, "question": example.question, "answers": answers}


def _question(question: Mapping[str, Any], context: str, path: Path, place: str) -> QAExample:
    identity = name_field(question, "id", path, place=f"{place}.id")
    answers = [
        _answer(answer, context, path, answer_place, identity)
        for answer_place, answer in list_field(question, "answers", path, place=place)
    ]
    if not answers:
        problem = f"question '{identity}' has no answer; questions without one (SQuAD 2.0) cannot be used"
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
    text = string_field(answer, "text", path, place=f"{place}.text")
    start = answer.get("answer_start")
    field = f"{place}.answer_start"
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise bad_input(path, f"question '{question_id}': must be a character offset, not {shown(start)}", field=field)
    found = context[start : start + len(text)]
    if found != text:
        there = f"the context has {shown(found)} at {shown(start)}"
        raise bad_input(path, f"question '{question_id}': {there}, the answer is {shown(text)}", field=field)
    return text, start
