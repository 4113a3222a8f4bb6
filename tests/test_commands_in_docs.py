"""Every command in the pages exists, with its options and settings, and settings have valid values."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nmg.cli import app
from nmg.cli.words import configs_and_settings
from nmg.config import load_config

DOCS = Path(__file__).parent.parent / "docs"
FOLDERS = (".", "how-to", "reference", "tutorials", "explanation")
PAGES = tuple(
    path.relative_to(DOCS).as_posix()
    for folder in FOLDERS
    for path in sorted((DOCS / folder).glob("*.md"))
    if "nmg " in path.read_text(encoding="utf-8")
)
WRONG_ON_PURPOSE = {"nmg validate chemprot-minilm --masking.rat 0.2"}
"""An example whose error the page shows."""
THREADS = (
    *("peft#116", "tokenizers#1160", "sentence-transformers#1844", "sentence-transformers#1502", "ModernBERT#222"),
    *("MEDS-DEV#140", "winml-cli#341", "transformers#36357", "T4", "--resume"),
)
"""The questions that people ask most, by their threads."""


def commands(text: str) -> Iterator[str]:
    """The commands of a page: lines of its shell blocks, and code spans in its tables."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.split("#")[0].strip()
    for row in re.findall(r"^\|.*\|$", text, flags=re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", row)


def found(page: str) -> list[str]:
    return [line for line in commands((DOCS / page).read_text(encoding="utf-8")) if line.startswith("nmg ")]


@pytest.mark.parametrize("page", PAGES)
def test_each_command_is_valid(page: str):
    lines = found(page)
    problems = {line: problem for line in lines if (problem := check(line))}
    assert problems.keys() <= WRONG_ON_PURPOSE, problems


def check(line: str) -> str | None:
    """What is wrong with a command, or None."""
    words = [word for word in shlex.split(line)[1:] if word not in {"…", "[", "]"}]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name = words.pop(0) if words else "--help"
        if name.startswith("-"):
            return None
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    if not words:  # a page names the command
        return None
    try:
        parsed = command.make_context(command.name, words)
        load_config(None, configs_and_settings(None, parsed.args)[1])
    except Exception as error:
        return str(error) or repr(error)
    return None


def test_the_pages_have_commands():
    assert sum(len(found(page)) for page in PAGES) > 80


def test_a_wrong_command_is_found():
    assert check("nmg adapt --corpus a.txt --out b --adapt.lora.rank 8 …") is None
    assert check("nmg adopt --corpus a.txt") == "no command adopt"
    for wrong in ("--adapt.lora.rnak 8", "--adapt.lora.rank eight", "--recipes modern", "--workers"):
        assert check(f"nmg adapt --corpus a.txt --out b {wrong}") is not None


def test_each_question_of_the_threads_has_a_command():
    section = (DOCS / "guide.md").read_text(encoding="utf-8").partition("## Questions that people ask")[2]
    rows = [row for row in section.partition("\n## ")[0].splitlines() if row.startswith("|")]
    for thread in THREADS:
        row = next((row for row in rows if thread in row), "")
        assert list(commands(row)), f"{thread} has no command"
