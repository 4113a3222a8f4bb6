"""Questions in .json files: SQuAD's, NewsQA's or emrQA's, told apart by what they hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmg.data.formats.emrqa import emrqa_examples
from nmg.data.formats.newsqa import newsqa_examples
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import parse_json, part_of, read_text
from nmg.data.formats.squad import squad_examples
from nmg.errors import bad_input


def read_question_json(path: Path) -> list[QAExample]:
    """The questions of a file, or of one part of NewsQA's: `combined-newsqa-data-v1.json@train`.

    Raises UserError as the readers of the formats do, and for a part of a file that has none.
    """
    file, part = part_of(path)
    content = parse_json(read_text(file), file)
    article = _first(content, "data")
    if "questions" in article:
        return newsqa_examples(content, file, part)
    if part is not None:
        raise bad_input(file, f"has no part '{part}': only NewsQA's JSON has parts")
    paragraph = _first(article, "paragraphs")
    if isinstance(paragraph.get("context"), list) or isinstance(_first(paragraph, "qas").get("question"), list):
        return emrqa_examples(content, file)
    return squad_examples(content, file)


def _first(parent: Any, name: str) -> Mapping[str, Any]:
    """The first member of the list `parent[name]`; an empty one where there is none."""
    members = parent.get(name) if isinstance(parent, dict) else None
    first = members[0] if isinstance(members, list) and members else None
    return first if isinstance(first, dict) else {}
