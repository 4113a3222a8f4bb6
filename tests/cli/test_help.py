"""`nmg --help`: groups, one valid example per command, whole paragraphs, and the paper's names of two commands."""

import inspect
import shlex

import pytest
import typer.main

from nmg.cli import COMMANDS, app
from nmg.cli.commands import Entry, help_text
from support.command import Nmg

GROUPS = {
    "Start": ["init", "demo", "data"],
    "Decide": ["audit", "estimate"],
    "Adapt": ["adapt", "vocabulary", "share"],
    "Learn": ["learn"],
    "Prove": ["compare", "inspect", "report"],
    "Look up and check": ["settings", "validate", "maskings", "check-collator"],
}


def test_commands_are_grouped_in_the_order_of_work(nmg: Nmg, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    found: dict[str, list[str]] = {}
    for line in nmg("--help").out.splitlines():
        if line.startswith("╭─"):
            group = line.strip("╭╮─ ")
        elif line.startswith("│ ") and group != "Options" and line[2] != " ":
            found.setdefault(group, []).append(line.split()[1])
    assert found == GROUPS


def test_paragraphs_are_not_broken_at_lines_of_the_source():
    def run() -> None:
        """First line.

        A paragraph of
        two lines, with [brackets].

        Another.
        """

    assert help_text(run) == "First line.\n\nA paragraph of two lines, with \\[brackets].\n\nAnother."


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_the_example_is_valid_and_the_help_shows_it(entry: Entry, nmg: Nmg, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "1000")
    help_lines = [line.strip() for line in nmg(entry.name, "--help").out.splitlines()]
    assert f"Example: {entry.example}" in help_lines
    for paragraph in inspect.cleandoc(entry.run.__doc__ or "").split("\n\n"):
        assert " ".join(paragraph.split()) in help_lines
    program, name, *words = shlex.split(entry.example)
    assert (program, name) == ("nmg", entry.name)
    context = typer.main.get_command(app).commands[name].make_context(name, words)  # type: ignore[attr-defined]
    assert all(word.startswith("--") == ("." in word) for word in context.args[::2]), "the rest are settings"


@pytest.mark.parametrize(("alias", "name"), [("meta-train", "learn"), ("meta-test", "compare")])
def test_the_names_of_the_paper_are_the_same_commands(alias: str, name: str):
    first, second = (next(entry for entry in COMMANDS if entry.name == one) for one in (alias, name))
    assert first.run is second.run
    assert (first.is_hidden, second.is_hidden) == (True, False)


def test_the_paper_s_name_of_the_learned_masking_is_known(nmg: Nmg):
    answer = nmg("maskings")
    assert "learned" in answer.out
    assert "neural" not in answer.out
