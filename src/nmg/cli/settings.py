"""`nmg settings`: lists the settings with type, default and meaning."""

from typing import Annotated

import typer


def settings(
    section: Annotated[
        str | None, typer.Argument(help="A section, a group or a setting: adapt, adapt.lora, adapt.lora.rank.")
    ] = None,
    find: Annotated[
        str | None, typer.Option(help="Show only settings whose name or meaning contains this text.")
    ] = None,
) -> None:
    """Show the settings of a section with type, default and meaning, or all sections.

    Write a setting in a configuration file as `section: {field: value}`, and on the command line as
    --section.field value.
    """
    from nmg.base.errors import UserError
    from nmg.config.reference import section_meanings, settings_reference, settings_within
    from nmg.report.document import Table
    from nmg.report.terminal import show

    every = settings_reference() if section is None else settings_within(section)
    if section is None and find is None:
        caption = "Sections of a configuration. See one: nmg settings SECTION. Search all: nmg settings --find TEXT."
        show([Table(("section", "content"), tuple(section_meanings().items()), caption=caption, n_words=2)])
        return
    found = [one for one in every if find is None or one.matches(find)]
    if not found:
        raise UserError(f"--find {find}: no name and no meaning of a setting contains this text")
    rows = tuple(
        (f"{one.name} ({one.kind})" if one.kind else one.name, one.type, one.default, one.meaning) for one in found
    )
    show([Table(("setting", "type", "default", "meaning"), rows, n_words=4)])
