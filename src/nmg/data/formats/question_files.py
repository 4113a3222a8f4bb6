"""Reads questions from .json, .jsonl and .csv files and detects their format from the content."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmg.base.errors import UserError, bad_input
from nmg.data.formats.emrqa import emrqa_examples
from nmg.data.formats.mrqa import read_mrqa
from nmg.data.formats.newsqa import COLUMN as NEWSQA_COLUMN
from nmg.data.formats.newsqa import TOKENS_COLUMN, newsqa_examples, read_newsqa_csv
from nmg.data.formats.question_rows import is_row, read_question_rows
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import holds_json_lines, parse_json, part_of, read_text
from nmg.data.formats.squad import squad_examples
from nmg.data.formats.subjqa import COLUMN as SUBJQA_COLUMN
from nmg.data.formats.subjqa import read_subjqa
from nmg.data.formats.tables import read_records

_KNOWN = "SQuAD's 'paragraphs', NewsQA's 'questions', or rows with 'question', 'context' and 'answers'"


def read_question_json(path: Path) -> list[QAExample]:
    """Return the questions of a .json file, or of one part of NewsQA, e.g. `combined-newsqa-data-v1.json@train`.

    The file contains JSON Lines, or a list of rows or of articles (SQuAD, NewsQA, emrQA). The list may be in the field
    `data`. Raises UserError for an unknown format, for a part of a file without parts, and for errors in the
    detected format.
    """
    file, part = part_of(path)
    if part is None and holds_json_lines(file):
        return read_question_lines(file)
    content = parse_json(read_text(file), file)
    if isinstance(content, dict) and "data" not in content:
        content = [content]
    first = _first(content, "data")
    if "questions" in first:
        return newsqa_examples(content, file, part)
    if part is not None:
        raise bad_input(file, f"has no part '{part}', because only NewsQA's JSON has parts")
    if is_row(first):
        return read_question_rows(file)
    if first and "paragraphs" not in first and "qas" not in first:
        raise _no_questions(file, first)
    paragraph = _first(first, "paragraphs")
    if isinstance(paragraph.get("context"), list) or isinstance(_first(paragraph, "qas").get("question"), list):
        return emrqa_examples(content, file)
    return squad_examples(content, file)


def read_question_lines(path: Path) -> list[QAExample]:
    """Return the questions of a JSON Lines file with MRQA or rows.

    Raises UserError for an unknown format and for errors in the detected format.
    """
    _, first = next(iter(read_records(path)))
    if is_row(first):
        return read_question_rows(path)
    if not {"header", "context", "qas"}.intersection(first):
        raise _no_questions(path, first)
    return read_mrqa(path)


def read_question_table(path: Path) -> list[QAExample]:
    """Return the questions of a CSV file of NewsQA or SubjQA.

    Raises UserError for an unknown format and for errors in the detected format.
    """
    _, first = next(iter(read_records(path)), (0, {}))
    if SUBJQA_COLUMN in first:
        return read_subjqa(path)
    if first and not {NEWSQA_COLUMN, TOKENS_COLUMN}.intersection(first):
        known = f"'{NEWSQA_COLUMN}' of NewsQA or '{SUBJQA_COLUMN}' of SubjQA"
        raise bad_input(
            path,
            f"has no column {known}. Write other questions as .json rows with 'question', 'context' and 'answers'.",
        )
    return read_newsqa_csv(path)


def _no_questions(path: Path, record: Mapping[str, Any]) -> UserError:
    """Return the error for a file of an unknown format."""
    there = ", ".join(f"'{name}'" for name in record)
    advice = "For labelled texts set --data.task classification (in nmg data: --task classification)."
    return bad_input(path, f"contains no questions: no {_KNOWN} (found: {there}). {advice}")


def _first(parent: Any, name: str) -> Mapping[str, Any]:
    """Return the first member of a list, or of the list `parent[name]`; an empty object if there is none."""
    members = parent.get(name) if isinstance(parent, dict) else parent
    first = members[0] if isinstance(members, list) and members else None
    return first if isinstance(first, dict) else {}
