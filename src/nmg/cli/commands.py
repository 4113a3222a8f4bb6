"""Behaviour that all commands share: rejecting unknown options, joining lists with blanks, and handling Ctrl-C."""

import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from nmg.base.errors import UserError

_OPTION = re.compile(r"--?[A-Za-z]")
WITH_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of commands that accept '--section.field value' in addition to their options."""

SAME_COMMAND = "run the same command again to continue"
HOW_TO_CONTINUE = {
    "meta-test": SAME_COMMAND,
    "compare": SAME_COMMAND,
    "audit": SAME_COMMAND,
    "report": "the last page that was written is complete",
}
"""Command → advice after an interruption. Commands that save no results are not listed."""


@dataclass(frozen=True)
class Completion:
    """A word that completes what was typed, as the shells' completions read it."""

    value: str
    help: str
    type: str = "plain"


class Command(TyperCommand):
    """A command that explains on Ctrl-C how to continue and then exits with code 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. On Ctrl-C, print how to continue and exit."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer would exit without a message
            typer.echo(f"interrupted; {_how_to_continue(ctx)}", err=True)
            raise typer.Exit(130) from None


class SettingsCommand(Command):
    """A command that accepts settings ('--section.field value') in addition to its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line. Raises UserError for an option that is unknown and not a setting."""
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

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete options as usual, and settings by their names: --adapt.l<TAB> gives --adapt.learning_rate."""
        found: list[Any] = list(super().shell_complete(ctx, incomplete))
        if incomplete.startswith("--"):
            from nmg.config.reference import settings_reference

            known = {f"--{one.name}": one.meaning.partition(". ")[0] for one in reversed(settings_reference())}
            found += [Completion(name, known[name]) for name in reversed(known) if name.startswith(incomplete)]
        return found


@dataclass(frozen=True)
class Entry:
    """A command, as `nmg --help` lists it."""

    name: str
    run: Callable[..., None]
    panel: str
    """Heading of its group in `nmg --help`."""
    example: str
    """Command line that `--help` shows at its end."""
    has_settings: bool = True
    """Whether the command accepts '--section.field value'."""
    is_hidden: bool = False

    def register(self, app: typer.Typer) -> None:
        """Add the command to `app`."""
        app.command(
            self.name,
            cls=SettingsCommand if self.has_settings else Command,
            context_settings=WITH_SETTINGS if self.has_settings else None,
            help=help_text(self.run),
            epilog=example_line(self.example),
            rich_help_panel=self.panel,
            hidden=self.is_hidden,
        )(self.run)


def example_line(command: str) -> str:
    """Return the last line of a command's `--help`, with rich markup."""
    return f"[bold]Example:[/bold] {escape(command)}"


def help_text(run: Callable[..., None]) -> str:
    """Return a function's docstring as the text of `--help`: one line per paragraph, without markup.

    The lines of the source are too short or too long for a terminal, which breaks paragraphs at its own width.
    """
    paragraphs = inspect.cleandoc(run.__doc__ or "").split("\n\n")
    return escape("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))


def join_lists(words: Sequence[str]) -> list[str]:
    """Join lists that have blanks next to their commas into one word: 'none,' 'random' → 'none,random'."""
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
    """Check that `word` is one of the `known` options, a setting ('--section.field'), or not an option.

    The names of settings are not checked.

    Raises:
        UserError: If `word` is an unknown option. The message suggests similar ones.
    """
    name = word.partition("=")[0]
    if _OPTION.match(name) is None or name in known or "." in name:
        return
    from nmg.config.load import SHORT, setting_names

    if name in SHORT:
        return
    field = name.lstrip("-").replace("-", "_")
    settings = [f"--{setting}" for setting in setting_names() if setting.rpartition(".")[2] == field]
    matches = settings or difflib.get_close_matches(name, [*known, *SHORT], n=1)
    advice = f" Did you mean {' or '.join(matches)}?" if matches else f" Use {', '.join(known)}, or --section.field"
    raise UserError(f"No such option: {name}.{advice}")


def _how_to_continue(ctx: Any) -> str:
    """Return advice for the user after an interruption: a sentence without a capital letter and full stop."""
    name, given = ctx.info_name, ctx.params
    folder = given.get("resume") or given.get("out")
    if name in {"learn", "meta-train"} and folder is not None:
        if (Path(folder) / "config.yaml").is_file():
            return f"continue with: nmg learn --resume {folder}"
        return "nothing was saved yet, so run the same command again"
    if name == "adapt" and folder is not None:
        if (Path(folder) / "config.yaml").is_file():
            return f"continue with: nmg adapt{' --auto' if given.get('auto') else ''} --resume {folder}"
        return "nothing was saved yet, so run the same command again"
    if name == "demo" and folder is not None and Path(folder).is_dir():
        return f"remove {folder} before you start again"
    return HOW_TO_CONTINUE.get(name, "nothing was saved, so run the same command again")
