"""Reads questions on reviews in the CSV of SubjQA (Bjerva et al., EMNLP 2020; megagonlabs/SubjQA)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmg.base.errors import bad_input, shown
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import NO_CONTEXT, string_field
from nmg.data.formats.tables import read_records
from nmg.data.notices import warn_once

COLUMN = "human_ans_indices"
"""Column that identifies a SubjQA file."""
_NO_ANSWER = "ANSWERNOTFOUND"
_INDICES = re.compile(r"\(([0-9]{1,18}), *([0-9]{1,18})\)")


def read_subjqa(path: Path) -> list[QAExample]:
    """Return the questions in file order.

    Rows with the same `q_review_id` are several people's answers to one question. An answer is the text of the review
    at `human_ans_indices`. It is skipped if it differs from `human_ans_spans` in more than white space. A question has
    no answer if nobody found one. It is skipped if all answers found were skipped; a warning gives the number of such
    questions. The marker at the end of a review is removed from the text. Raises UserError with line and field if the
    table is invalid.
    """
    questions: dict[str, tuple[str, str]] = {}
    answers: dict[str, dict[tuple[int, str], None]] = {}  # an ordered set
    lost: set[str] = set()
    for line, record in read_records(path):
        question = string_field(record, "question", path, line=line)
        review = string_field(record, "review", path, line=line)
        context = review.removesuffix(_NO_ANSWER).rstrip()
        identity = string_field(record, "q_review_id", path, line=line)
        if questions.setdefault(identity, (question, context)) != (question, context):
            raise bad_input(path, f"'{identity}' is also the id of another question", line=line, field="q_review_id")
        found = answers.setdefault(identity, {})
        text = string_field(record, "human_ans_spans", path, line=line)
        first, end = _span(record, path, line)
        if text == _NO_ANSWER:
            continue
        span = context[first:end].rstrip()
        if "".join(span.split()) == "".join(text.split()):
            found[first, span] = None
        else:
            lost.add(identity)
    left_out = {identity for identity in lost if not answers[identity]}
    if len(left_out) == len(questions):
        raise bad_input(path, "contains no question with an answer in its review")
    if left_out:
        warn_once(path, f"questions whose answers are not in their review are left out: {len(left_out)}")
    return [
        QAExample(
            *(identity, *questions[identity]),
            answers=tuple(text for _, text in found),
            answer_starts=tuple(first for first, _ in found),
            context_id=NO_CONTEXT,
        )
        for identity, found in answers.items()
        if identity not in left_out
    ]


def _span(record: Mapping[str, Any], path: Path, line: int) -> tuple[int, int]:
    """Return the half-open character span of an answer."""
    indices = string_field(record, COLUMN, path, line=line)
    match = _INDICES.fullmatch(indices.strip())
    if match is None:
        raise bad_input(path, f"must be '(first, end)' in characters, not {shown(indices)}", line=line, field=COLUMN)
    return int(match[1]), int(match[2])
