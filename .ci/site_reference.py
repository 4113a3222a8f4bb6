"""Hook of mkdocs: writes the reference of commands and settings from the code into pages that ask for it.

A page asks with a comment on a line: `<!-- reference: commands -->` or `<!-- reference: settings -->`. So a default, a
type or the help of an option has one home, and page and program agree.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from mkdocs.exceptions import PluginError

MARKER = re.compile(r"^<!-- reference: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace each marker by its part of the reference. Raises PluginError for an unknown part."""

    def written(match: re.Match[str]) -> str:
        if match[1] not in PARTS:
            raise PluginError(f"{page.file.src_uri}: there is no reference '{match[1]}'; use {', '.join(PARTS)}")
        return "\n".join(PARTS[match[1]]())

    return MARKER.sub(written, markdown)


def settings() -> Iterator[str]:
    """Yield Markdown with a table per section: setting, type, default, meaning."""
    from nmg.config.reference import section_meanings, settings_reference

    every = settings_reference()
    for section, meaning in section_meanings().items():
        yield f"\n## {section}\n\n{_text(meaning)}.\n"
        for kind in dict.fromkeys(one.kind for one in every if one.name.split(".")[0] == section):
            if kind:
                yield f"\n### {section}.kind: {kind}\n"
            yield from ("| setting | default | type | meaning |", "|---|---|---|---|")
            for one in every:
                if one.name.split(".")[0] == section and one.kind == kind:
                    cells = (f"`{one.name}`", _code(one.default), _text(one.type), _text(one.meaning))
                    yield f"| {' | '.join(cells)} |"


def commands() -> Iterator[str]:
    """Yield Markdown with a section per command: what it does, an example, arguments and options."""
    import click
    import typer.main

    from nmg.cli import app

    root: Any = typer.main.get_command(app)
    panel = ""
    for name in sorted(root.commands, key=lambda name: _panels().index(root.commands[name].rich_help_panel)):
        command = root.commands[name]
        if command.hidden:
            continue
        if command.rich_help_panel != panel:
            panel = command.rich_help_panel
            yield f"\n## {panel}\n"
        inner = {f"{name} {one}": part for one, part in getattr(command, "commands", {}).items()}
        for full, one in (inner or {name: command}).items():
            with click.Context(one, info_name=f"nmg {full}") as context:
                yield from _command(full, one, context)


def _panels() -> tuple[str, ...]:
    """Return the groups of `nmg --help`, in their order."""
    from nmg import cli

    return (cli.START, cli.DECIDE, cli.ADAPT, cli.LEARN, cli.PROVE, cli.LOOK)


def _command(name: str, command: Any, context: Any) -> Iterator[str]:
    """Yield the section of one command."""
    usage = " ".join([f"nmg {name}", *command.collect_usage_pieces(context)])
    yield f"\n### nmg {name}\n\n{_text(command.help or '')}\n\n```sh\n{usage}"
    if command.epilog:
        yield re.sub(r"\[/?bold\]|Example:\s*", "", command.epilog).replace("\\[", "[").strip()
    yield "```\n"
    rows = [row for parameter in command.params if (row := _parameter(parameter, context))]
    if rows:
        yield from ("| argument or option | default | meaning |", "|---|---|---|", *rows)


def _parameter(parameter: Any, context: Any) -> str | None:
    """Return the table row of an argument or option; None if `--help` does not list it."""
    if getattr(parameter, "hidden", False):
        return None
    is_option = parameter.param_type_name == "option"
    name = "`, `".join([*parameter.opts, *parameter.secondary_opts]) if is_option else (parameter.name or "").upper()
    default = parameter.get_default(context)
    shown = "" if default is None or default is False or callable(default) else _code(default)
    return f"| `{name}` | {'required' if parameter.required else shown} | {_text(parameter.help or '')} |"


def _code(value: Any) -> str:
    return f"`{str(value).replace('|', chr(92) + '|')}`"


def _text(text: str) -> str:
    """Return help as Markdown: signs that Markdown would read are escaped, except code marks."""
    text = text.replace("\\[", "[")
    parts = re.split(r"(`[^`]*`)", text)
    plain = [part if part.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts]
    return "".join(plain).replace("|", "\\|")


PARTS: dict[str, Callable[[], Iterator[str]]] = {"settings": settings, "commands": commands}
