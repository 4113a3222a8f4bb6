"""What all commands share: options that are not there, values with blanks after their commas, and Ctrl-C."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from nmg.errors import UserError

_OPTION = re.compile(r"--?[A-Za-z]")

SAME_COMMAND = "give the same command again: it continues from what is there"
HOW_TO_CONTINUE = {
    "meta-test": SAME_COMMAND,
    "compare": SAME_COMMAND,
    "audit": SAME_COMMAND,
    "report": "the page that was written last is whole",
}
"""Command → what to do after an interruption; commands that keep nothing are not here."""


class Command(TyperCommand):
    """A command that says how to continue after Ctrl-C; the exit code is 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer would end without a word
            typer.echo(f"interrupted; {_how_to_continue(ctx)}", err=True)
            raise typer.Exit(130) from None


class SettingsCommand(Command):
    """A command that takes settings ('--section.field value') next to its own options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises UserError for an option that is neither of the command nor of the form of a setting."""
        own = sorted(
            {name for parameter in self.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts)}
        )
        words = join_lists(args)
        before = ""
        for word in words:
            if word == "--":
                break
            is_value = before.startswith("--") and "=" not in before and not word.startswith("--")
            if not is_value:
                check_option(word, [name for name in own if name.startswith("-")])
            before = word
        return super().parse_args(ctx, words)


def join_lists(words: Sequence[str]) -> list[str]:
    """The words, with a list that has blanks at its commas made one word: 'none,' 'random' → 'none,random'."""
    joined: list[str] = []
    for word in words:
        before = joined[-1] if joined else "--"
        is_part = not word.startswith("--") and (not before.startswith("--") or "=" in before)
        if is_part and (before.endswith(",") or word.startswith(",")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def check_option(word: str, known: Sequence[str]) -> None:
    """Raises UserError, with the option that may be meant, for an option that a command lacks.

    Settings are not looked at: only their section can say whether there is such a field.
    """
    name = word.partition("=")[0]
    if _OPTION.match(name) is None or name in known or "." in name:
        return
    from nmg.config.load import SHORT, setting_names

    if name in SHORT:
        return
    field = name.lstrip("-").replace("-", "_")
    settings = [f"--{setting}" for setting in setting_names() if setting.partition(".")[2] == field]
    matches = settings or difflib.get_close_matches(name, [*known, *SHORT], n=1)
    advice = (
        f" Did you mean {' or '.join(matches)}?" if matches else f" There are: {', '.join(known)}, and --section.field"
    )
    raise UserError(f"No such option: {name}.{advice}")


def _how_to_continue(ctx: Any) -> str:
    """What a user can do after an interruption, as a sentence without its full stop."""
    name, given = ctx.info_name, ctx.params
    folder = given.get("resume") or given.get("out")
    if name == "meta-train" and folder is not None:
        if (Path(folder) / "config.yaml").is_file():
            return f"continue with: nmg meta-train --resume {folder}"
        return "nothing is written yet"
    if name == "demo" and folder is not None and Path(folder).is_dir():
        return f"remove {folder} before you start again"
    return HOW_TO_CONTINUE.get(name, "nothing is kept: give the same command again")
