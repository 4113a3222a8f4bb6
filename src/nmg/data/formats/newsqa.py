"""Reads NewsQA's questions on CNN stories: combined CSV or JSON (Trischler et al., 2017; Maluuba/newsqa)."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from nmg.base.errors import bad_input, shown
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import NO_CONTEXT, list_field, string_field, top_members
from nmg.data.formats.tables import read_records
from nmg.data.notices import warn_once

Verdict: TypeAlias = tuple[int, int] | None
"""Start and end (exclusive) of an answer, in characters, or None if the story does not contain an answer."""

COLUMN, TOKENS_COLUMN = "answer_char_ranges", "answer_token_ranges"
"""Columns that identify NewsQA's combined and split files."""
_BAD_QUESTION = (-1, -1)
_EMPTIED = (-2, -2)
_PLACE = re.compile(r"[0-9]{1,18}")


def read_newsqa_csv(path: Path) -> list[QAExample]:
    """Return the questions of combined-newsqa-data-*.csv with their consensus answers, as in NewsQA's own scripts.

    If there are validated answers, they decide: the most frequent one wins if it has at least half of the votes.
    Otherwise the most frequent of all ranges wins; ties go to the first. A question without a consensus is skipped if
    at least half of the votes call it bad; otherwise it has no answer. A question whose ranges were all removed by
    NewsQA's scripts is skipped, and a warning gives the number of such questions. Offsets count the characters of
    stories with `\\n` line breaks.

    Raises UserError with line and field if the table is invalid or if most answers begin or end inside a word.
    """
    examples: list[QAExample] = []
    n_emptied = 0
    for line, record in read_records(path):
        if TOKENS_COLUMN in record and COLUMN not in record:
            problem = "counts tokens, but nmg needs characters. Give combined-newsqa-data-v1.csv, which counts them."
            raise bad_input(path, problem, line=line, field=TOKENS_COLUMN)
        story = string_field(record, "story_text", path, line=line).replace("\r\n", "\n")
        verdict = _consensus(record, path, line)
        if verdict == _EMPTIED:
            n_emptied += 1
        if verdict in (_BAD_QUESTION, _EMPTIED):
            continue
        identity = f"{string_field(record, 'story_id', path, line=line)}#{line}"
        question = string_field(record, "question", path, line=line)
        examples.append(_example(identity, question, story, verdict, path, line, COLUMN))
    if n_emptied:
        warn_once(path, f"questions whose answer ranges were all removed are left out: {n_emptied}")
    return _plausible(examples, path)


def newsqa_examples(content: Any, path: Path, part: str | None) -> list[QAExample]:
    """Return the questions of combined-newsqa-data-*.json with their consensus answers.

    Bad questions are skipped. If the consensus is that there is no answer, the question has no answers.

    Args:
        content: the parsed document.
        path: the file, for messages.
        part: the part (`type`) of the stories to return; None returns all.

    Returns:
        The questions in file order.

    Raises:
        UserError: if the structure is invalid (with the path of the field), if most answers begin or end inside a
            word, or if there are no questions.
    """
    examples: list[QAExample] = []
    for story_place, story in top_members(content, path):
        if part is not None and story.get("type") != part:
            continue
        text = string_field(story, "text", path, place=f"{story_place}.text")
        identity = string_field(story, "storyId", path, place=f"{story_place}.storyId")
        for number, (place, question) in enumerate(list_field(story, "questions", path, place=story_place)):
            field = f"{place}.consensus"
            consensus = question.get("consensus")
            if not isinstance(consensus, dict):
                raise bad_input(path, "is missing or not an object", field=field)
            if consensus.get("badQuestion"):
                continue
            verdict = None if consensus.get("noAnswer") else (consensus.get("s"), consensus.get("e"))
            asked = string_field(question, "q", path, place=f"{place}.q")
            examples.append(_example(f"{identity}#{number}", asked, text, verdict, path, None, field))
    return _plausible(examples, path)


def _consensus(record: Mapping[str, Any], path: Path, line: int) -> Verdict:
    """Return the consensus answer of a row, or None if there is no consensus.

    The result is None too if the consensus is that the story has no answer.

    Returns `_BAD_QUESTION` instead of None if the question is bad (`_is_bad`), and `_EMPTIED` if the row contains no
    choices.
    """
    choices = _validated(record, path, line)
    field = "validated_answers"
    if choices:
        top = max(choices, key=lambda choice: choices[choice])  # the first of equally frequent choices
        decided = 2 * choices[top] >= sum(choices.values())
    else:
        field, ranges = COLUMN, record.get(COLUMN)
        if ranges is None:
            string_field(record, field, path, line=line)  # raises
        choices = Counter(choice for choice in re.split("[|,]", str(ranges)) if choice.strip())
        if not choices:
            return _EMPTIED
        top, decided = choices.most_common(1)[0][0], True
    verdict = _verdict(top, path, line, field) if decided else None
    return verdict if verdict not in (None, _BAD_QUESTION) else _BAD_QUESTION if _is_bad(record, verdict) else None


def _is_bad(record: Mapping[str, Any], verdict: Verdict) -> bool:
    """Return whether a question without an answer is bad.

    It is bad if at least half of the votes call it bad. If the file does not give the votes, `verdict` decides.
    """
    try:
        return float(record.get("is_question_bad") or "") >= 0.5
    except ValueError:  # "?" or a missing column
        return verdict == _BAD_QUESTION


def _validated(record: Mapping[str, Any], path: Path, line: int) -> Counter[str]:
    """Return choice → number of validators."""
    text = record.get("validated_answers") or "{}"
    try:
        choices = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_input(path, f"is not valid JSON: {error}", line=line, field="validated_answers") from error
    if not isinstance(choices, dict) or not all(isinstance(count, int) for count in choices.values()):
        raise bad_input(path, f"must map choices to counts, not {text[:60]}", line=line, field="validated_answers")
    return Counter(choices)


def _verdict(choice: str, path: Path, line: int, field: str) -> Verdict:
    """Return the verdict that a choice describes.

    Args:
        choice: `first:end` in characters, `none` or `bad_question`.
        path: the file, for messages.
        line: line number from 1, for messages.
        field: column of the choice, for messages.

    Returns:
        The verdict; `_BAD_QUESTION` for `bad_question`.

    Raises:
        UserError: if the choice has another form.
    """
    if choice.strip().lower() == "none":
        return None
    if choice.strip().lower() == "bad_question":
        return _BAD_QUESTION
    first, _, end = choice.partition(":")
    if not _PLACE.fullmatch(first.strip()) or not _PLACE.fullmatch(end.strip()):
        raise bad_input(path, f"'{choice}' must be first:end in characters, or None", line=line, field=field)
    return int(first), int(end)


def _example(
    identity: str, question: str, story: str, verdict: Any, path: Path, line: int | None, field: str
) -> QAExample:
    """Return an example whose answer has no surrounding white space.

    Args:
        identity: id of the question.
        question: text of the question.
        story: the text that contains the answer.
        verdict: start and end (exclusive) of the answer as in the file, unchecked, or None for no answer.
        path: the file, for messages.
        line: line number from 1, for messages; None without lines.
        field: field of the verdict, for messages.

    Returns:
        The example.

    Raises:
        UserError: if the answer is blank or not inside the story.
    """
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


def _plausible(examples: list[QAExample], path: Path) -> list[QAExample]:
    """Return the examples after checking that most answers begin and end at word boundaries.

    Answers inside words suggest that the offsets belong to another text. Warns if a few answers begin or end inside a
    word. Raises UserError if most of them do, or if there are no examples.
    """
    if not examples:
        raise bad_input(path, "contains no questions")
    answered = [example for example in examples if example.answers]
    cut = [example for example in answered if _cuts_a_word(example)]
    if cut:
        one = cut[0]
        problem = (
            f"{len(cut)} of {len(answered)} answers begin or end inside a word, like {shown(one.answers[0])} of "
            f"question '{one.id}' ({shown(one.question)})"
        )
        if 2 * len(cut) > len(answered):
            advice = "The ranges count the characters of another text. Create the file again with NewsQA's scripts."
            raise bad_input(path, f"{problem}. {advice}")
        warn_once(path, f"{problem}. Check that its ranges count the characters of this text.")
    return examples


def _cuts_a_word(example: QAExample) -> bool:
    """Return whether the answer begins or ends between two letters or digits."""
    first, end = example.answer_starts[0], example.answer_starts[0] + len(example.answers[0])
    edges = [example.context[place - 1 : place + 1] for place in (first, end) if place]
    return any(len(edge) == 2 and edge[0].isalnum() and edge[1].isalnum() for edge in edges)
