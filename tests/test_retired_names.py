"""Names that were given up do not come back, nor do the worst phrases (docs/glossary.md has the names in use)."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from nmg.config.former_names import FORMER_NAMES

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
KINDS = ("tutorials", "how-to", "reference", "explanation")
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(path for kind in KINDS for path in (ROOT / "docs" / kind).glob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]
RETIRED = (
    *("Playground", "PlaygroundOpener", "Arena", "Workplace", "Opener", "Workbench", "ModelBench", "CellBench"),
    *("AuditBench", "Outlook", "NothingToTell", "Ground", "Ingredients", "KeptSurprise", "ReadOnce", "FewEmbeddings"),
    *("OfPieces", "OfPlace", "ReadOut", "Book", "Turn", "Saved", "take_apart", "put_together", "open_workplace"),
    *("free_episodes", "may_lag", "move_on", "train_together", "is_first_process", "circumstances", "check_origin"),
    *("draw_hard", "draw_rare", "draw_different", "read_out", "only_places", "only_words", "start_head", "drawn_anew"),
    *("say_overlaps", "say_use", "sole_writer", "check_alone", "as_family", "handed_out", "in_short", "twins"),
)
"""Identifiers of the source that have other names now."""
PHRASES = re.compile(
    r"\b(told apart|tells? apart|none of (its|their) affair|anew|hands? out|handed out|hears? of|in earnest|seldom|"
    r"so many of|what is no(?! longer)|such as one|alike)\b"
)

PAGE_PHRASES = re.compile(
    PHRASES.pattern
    + r"|\b(beside|goes on|go on|as far as|of its own|of their own|so many|stands? (for|out|beside)|lies)\b",
    re.I,
)
"""The same, and phrases that only pages and messages must not have."""
NOT_YET = ("auditing", "comparison", "inspection", "meta_training", "report")
"""Packages whose messages still have some of the phrases; remove one once its messages are plain."""
WORD_LISTS = ("function_words.py",)
"""Files whose strings are lists of words."""
MESSAGE_PHRASES = re.compile(
    rf"{PAGE_PHRASES.pattern}|\b(holds? no(?! (more|longer))|stands? here|(?<!there )is no (?!longer))\b", re.I
)
"""The same, and phrases that only messages must not have."""


def identifiers(path: Path) -> set[str]:
    """Every name that the code of a file defines or uses."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for field in ("id", "attr", "name", "arg"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                found.add(value)
    return found


def prose(text: str) -> str:
    """The text of a page without code blocks and code within lines."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def docstrings(path: Path) -> list[str]:
    """Every string of a file that documents a module, class, function or field."""
    return [
        node.value.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]


def messages(code: str) -> list[str]:
    """Every string of a file that is not a docstring, with … for the values in it, and every comment."""
    tree = ast.parse(code)
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            found.append(node.value)
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return found + [token.string for token in tokens if token.type == tokenize.COMMENT]


def test_no_retired_name_is_in_the_source():
    found = {path.relative_to(ROOT): identifiers(path) & set(RETIRED) for path in SOURCES}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_no_former_setting(page: Path):
    text = page.read_text(encoding="utf-8")
    assert [name for name in FORMER_NAMES if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text)] == []


def test_docstrings_have_none_of_the_worst_phrases():
    found = {path.relative_to(ROOT): [text for text in docstrings(path) if PHRASES.search(text)] for path in SOURCES}
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_messages_and_comments_have_none_of_the_worst_phrases():
    read = [path for path in SOURCES if not set(path.parts).intersection((*NOT_YET, *WORD_LISTS))]
    texts = {path.relative_to(ROOT): messages(path.read_text(encoding="utf-8")) for path in read}
    found = {name: [text for text in of_file if MESSAGE_PHRASES.search(text)] for name, of_file in texts.items()}
    assert {name: of_file for name, of_file in found.items() if of_file} == {}


def test_messages_are_the_strings_that_are_not_docstrings():
    code = '''"""Words."""\nx = "a file"  # seldom\nraise E(f"{x} holds no " "text")\n'''
    assert messages(code) == ["a file", "… holds no text", "# seldom"]
    assert [text for text in messages(code) if MESSAGE_PHRASES.search(text)] == ["… holds no text", "# seldom"]
    assert not MESSAGE_PHRASES.search("there is no folder, and it is no longer needed")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_none_of_the_worst_phrases(page: Path):
    text = prose(page.read_text(encoding="utf-8"))
    assert [line for line in text.splitlines() if PAGE_PHRASES.search(line)] == []


def test_code_of_a_page_is_not_prose():
    text = prose("It goes on.\n```\nanew\n```\nUse `seldom` here.\n")
    assert PAGE_PHRASES.findall(text) != []
    assert "anew" not in text
    assert "seldom" not in text
    assert "It goes on." in text
