"""Reads clinical questions in the JSON of emrQA's scripts (Pampari et al., EMNLP 2018; panushri25/emrQA)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nmg.base.errors import bad_input
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import NO_CONTEXT, list_field, text_value, top_members
from nmg.data.notices import warn_once


def emrqa_examples(content: Any, path: Path) -> list[QAExample]:
    """Return one question per paraphrase in file order. Answers are the evidence lines, as in the paper.

    If the evidence occurs several times in a note, the occurrence nearest to the given place is used. Answers with
    several entities (`complex`) are skipped. Answers without evidence in the note are skipped, too: for example the
    classes of the obesity and smoking parts. Questions without remaining answers are skipped, as in Yue et al. (ACL
    2020); a warning gives their number. Raises UserError with the path of the field if the structure is invalid.
    """
    examples: list[QAExample] = []
    n_lost = 0
    for title_place, title in top_members(content, path):
        counts_characters = "risk" in str(title.get("title", "")).lower()
        for note_place, note in list_field(title, "paragraphs", path, place=title_place):
            lines = _lines(note, path, note_place)
            context = text_value("".join(lines), path, field=f"{note_place}.context")
            for place, question in list_field(note, "qas", path, place=note_place):
                answers = dict.fromkeys(
                    found
                    for _, answer in list_field(question, "answers", path, place=place)
                    if (found := _evidence(answer, context, lines, counts_characters)) is not None
                )
                paraphrases = _paraphrases(question, path, place)
                if not answers:
                    n_lost += len(paraphrases)
                    continue
                for number, paraphrase in enumerate(paraphrases):
                    texts, starts = (context[first:end] for first, end in answers), (first for first, _ in answers)
                    identity = f"{place}.question[{number}]"
                    examples.append(QAExample(identity, paraphrase, context, tuple(texts), tuple(starts), NO_CONTEXT))
    if not examples:
        raise bad_input(path, "contains no question with its evidence in the note")
    if n_lost:
        total = n_lost + len(examples)
        warn_once(path, f"questions without evidence in their note are left out: {n_lost} of {total}")
    return examples


def _lines(note: Mapping[str, Any], path: Path, place: str) -> list[str]:
    """Return the lines of a note. All lines except the last end with a line break."""
    context = note.get("context")
    lines = context.splitlines(keepends=True) if isinstance(context, str) else context
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise bad_input(path, "must be a text or a list of lines", field=f"{place}.context")
    return [line if line.endswith("\n") else f"{line}\n" for line in lines[:-1]] + lines[-1:]


def _paraphrases(question: Mapping[str, Any], path: Path, place: str) -> Sequence[str]:
    """Return the distinct paraphrases of a question."""
    asked = question.get("question")
    asked = [asked] if isinstance(asked, str) else asked
    if not isinstance(asked, list):
        raise bad_input(path, "must be a question or a list of its paraphrases", field=f"{place}.question")
    return list(dict.fromkeys(text_value(one, path, field=f"{place}.question") for one in asked))


def _evidence(
    answer: Mapping[str, Any], context: str, lines: Sequence[str], counts_characters: bool
) -> tuple[int, int] | None:
    """Return the half-open character span of an answer's evidence in its note.

    Args:
        answer: an answer of the file.
        context: the text of the note.
        lines: the lines of the note; together they equal `context`.
        counts_characters: whether `evidence_start` is a character offset from 0, as in the part on the risk of heart
            disease. In the other parts it is a line number from 1.

    Returns:
        Start and end (exclusive). None for a `complex` answer, an answer without evidence,
        or evidence that the note does not contain.
    """
    evidence = answer.get("evidence")
    words = evidence.split() if isinstance(evidence, str) else []
    if answer.get("answer_entity_type") == "complex" or not words:
        return None
    places = [match.span() for match in re.finditer(r"\s+".join(map(re.escape, words)), context)]
    start = answer.get("evidence_start")
    start = start[0] if isinstance(start, list) and start else start
    given = start if isinstance(start, int) and start > 0 else 0
    if given and not (counts_characters or given > len(lines)):  # larger numbers are offsets
        given = sum(map(len, lines[: given - 1]))
    return min(places, key=lambda place: abs(place[0] - given), default=None)
