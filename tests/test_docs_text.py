"""The pages are easy to review and to read: short lines, and short sentences in the tutorials."""

import re
import statistics
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.name not in {"results.md", "grid.md"})
"""All pages but those that nmg wrote."""
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))


def long_lines(text: str) -> list[str]:
    """The lines with more than 120 characters that could be broken: none of tables, terminals and JSON Lines."""
    fixed = re.compile(r"\s*([|┏┃┡│└{]|error: |warning: |episode )")
    return [
        line
        for line in text.splitlines()
        if len(line) > 120 and not fixed.match(line) and max(map(len, line.split())) < 80
    ]


def sentences(text: str) -> list[str]:
    """The sentences of the paragraphs and lists of a page."""
    text = re.sub(r"^```.*?^```|^#.*?$|^\|.*?$|^!\[.*?$", "\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    blocks = [" ".join(block.split()).removeprefix("- ") for block in re.split(r"\n\s*\n|\n\s*(?:-|\d+\.) ", text)]
    return [one for block in blocks for one in re.split(r"(?<=[.!?:])\s+(?=[A-Z`\[])", block) if len(one.split()) > 1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_lines_are_short(page: Path):
    assert long_lines(page.read_text(encoding="utf-8")) == []


def test_long_lines_are_found():
    assert long_lines("x " * 61 + "\n| " + "y " * 80 + "\nshort") == ["x " * 61]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_sentences_of_tutorials_are_short(page: Path):
    lengths = [len(one.split()) for one in sentences(page.read_text(encoding="utf-8"))]
    assert len(lengths) > 8
    assert statistics.median(lengths) <= 18


def test_sentences_are_those_of_paragraphs_and_lists():
    page = (
        "# Title\n\nOne two. Three four\nfive.\n\n```sh\nnmg x\n```\n- six seven\n- eight [nine](ten.md)\n\n| a b |\n"
    )
    assert sentences(page) == ["One two.", "Three four five.", "six seven", "eight [nine]"]
