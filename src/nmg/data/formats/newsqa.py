"""Questions on CNN stories as NewsQA's scripts combine them: CSV or JSON (Trischler et al., 2017; Maluuba/newsqa)."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import NO_CONTEXT, list_field, string_field
from nmg.data.formats.tables import read_records
from nmg.errors import bad_input, shown

Verdict: TypeAlias = tuple[int, int] | None
"""First character of an answer and the one behind its last; None: the story has no answer."""

_BAD_QUESTION = (-1, -1)
_PLACE = re.compile(r"[0-9]{1,18}")


def read_newsqa_csv(path: Path) -> list[QAExample]:
    """The questions of combined-newsqa-data-*.csv, each with the answer that most crowd workers chose.

    A worker who marked several places counts for the first; validators count as often as `validated_answers` says; of
    verdicts with equally many votes the first stands. Questions that most called bad are left out; one to which most
    saw no answer has none. Raises UserError with line and field for what is no such table.
    """
    examples: list[QAExample] = []
    for line, record in read_records(path):
        story = string_field(record, "story_text", path, line=line)
        ranges = string_field(record, "answer_char_ranges", path, line=line)
        votes: Counter[Verdict] = Counter()
        for worker in ranges.split("|"):
            votes[_verdict(worker.split(",")[0], path, line, "answer_char_ranges")] += 1
        for choice, count in _validated(record, path, line).items():
            votes[_verdict(choice.split(",")[0], path, line, "validated_answers")] += count
        verdict = max(votes, key=lambda one: votes[one])  # the first of several
        if verdict == _BAD_QUESTION:
            continue
        identity = f"{string_field(record, 'story_id', path, line=line)}#{line}"
        question = string_field(record, "question", path, line=line)
        examples.append(_example(identity, question, story, verdict, path, line, "answer_char_ranges"))
    return _some(examples, path)


def newsqa_examples(content: Any, path: Path, part: str | None) -> list[QAExample]:
    """The questions of combined-newsqa-data-*.json with their consensus answers; of the stories of one `part` if given.

    Bad questions are left out; one whose consensus is that there is no answer has none. Raises UserError with the
    field's path in the file.
    """
    examples: list[QAExample] = []
    for story_place, story in list_field(content, "data", path):
        if part is not None and story.get("type") != part:
            continue
        text = string_field(story, "text", path, place=f"{story_place}.text")
        identity = string_field(story, "storyId", path, place=f"{story_place}.storyId")
        for number, (place, question) in enumerate(list_field(story, "questions", path, place=story_place)):
            field = f"{place}.consensus"
            consensus = question.get("consensus")
            if not isinstance(consensus, dict):
                raise bad_input(path, "is missing or no object", field=field)
            if consensus.get("badQuestion"):
                continue
            verdict = None if consensus.get("noAnswer") else (consensus.get("s"), consensus.get("e"))
            asked = string_field(question, "q", path, place=f"{place}.q")
            examples.append(_example(f"{identity}#{number}", asked, text, verdict, path, None, field))
    return _some(examples, path)


def _validated(record: Mapping[str, Any], path: Path, line: int) -> dict[str, int]:
    """choice → validators who made it"""
    text = record.get("validated_answers") or "{}"
    try:
        choices = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_input(path, f"is not valid JSON: {error}", line=line, field="validated_answers") from error
    if not isinstance(choices, dict) or not all(isinstance(count, int) for count in choices.values()):
        raise bad_input(path, f"must be counts of choices, not {text[:60]}", line=line, field="validated_answers")
    return choices


def _verdict(choice: str, path: Path, line: int, field: str) -> Verdict:
    if choice.strip().lower() == "none":
        return None
    if choice.strip().lower() == "bad_question":
        return _BAD_QUESTION
    first, _, end = choice.partition(":")
    if not _PLACE.fullmatch(first.strip()) or not _PLACE.fullmatch(end.strip()):
        raise bad_input(path, f"'{choice}' is neither first:end, in characters, nor None", line=line, field=field)
    return int(first), int(end)


def _example(
    identity: str, question: str, story: str, verdict: Any, path: Path, line: int | None, field: str
) -> QAExample:
    """`verdict`: a `Verdict`, as far as the file can be trusted. An answer loses the white space around it."""
    answers: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()
    if verdict is not None:
        first, end = verdict
        if type(first) is not int or type(end) is not int or not 0 <= first < end <= len(story):
            problem = f"characters {shown(first)} to {shown(end)} are not in a story of {len(story)} characters"
            raise bad_input(path, problem, line=line, field=field)
        text = story[first:end]
        if not text.strip():
            raise bad_input(path, f"characters {first} to {end} are white space", line=line, field=field)
        answers, starts = (text.strip(),), (first + len(text) - len(text.lstrip()),)
    return QAExample(identity, question, story, answers, starts, NO_CONTEXT)


def _some(examples: list[QAExample], path: Path) -> list[QAExample]:
    if not examples:
        raise bad_input(path, "holds no questions")
    return examples
