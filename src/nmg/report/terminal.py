"""Renders tables, verdicts and text for a terminal."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import StringIO

import rich.table
from rich.console import Console, Group, RenderableType
from rich.text import Text

from nmg.base.errors import printable
from nmg.report.document import Block, Facts, Paragraph, Table, Verdict, paragraphs, spans

WIDTH = 100
"""Number of columns of `as_text`."""


def as_rich(block: Block) -> RenderableType:
    """Return a block as an object that rich can print; the notes of a table follow the table.

    Raises TypeError for a block that a terminal cannot show, such as a figure.
    """
    match block:
        case Table():
            return _table(block)
        case Verdict():
            return Group(*(Text.assemble((f"{name}: ", "bold"), _text(text)) for name, text in block.items()))
        case Paragraph(text):
            return Group(*map(_text, paragraphs(text)))
        case Facts():
            width = max(len(name) for name, _ in block.items) + 2
            return Group(*(Text(printable(f"{name:<{width}}{text}")) for name, text in block.items))
    raise TypeError(f"a terminal shows no {type(block).__name__}")


def show(blocks: Iterable[Table | Verdict | Paragraph]) -> None:
    """Print blocks to standard output; tables fit the terminal's width, and lines of text are not broken."""
    console = Console()
    for block in blocks:
        console.print(as_rich(block), soft_wrap=not isinstance(block, Table))


def as_text(blocks: Iterable[Block]) -> str:
    """Return blocks as plain text: tables of at most `WIDTH` columns, and lines of text that are not broken."""
    text = StringIO()
    console = Console(file=text, width=WIDTH, color_system=None)
    for block in blocks:
        console.print(as_rich(block), soft_wrap=not isinstance(block, Table))
    return text.getvalue().rstrip()


def notes_once(tables: Iterable[Table]) -> Iterator[Table]:
    """Return the tables, with each note kept only under the last table that has it."""
    kept, seen = [], set[str]()
    for table in reversed(list(tables)):
        kept.append(replace(table, notes=tuple(note for note in table.notes if note not in seen)))
        seen.update(table.notes)
    return reversed(kept)


def _table(table: Table) -> rich.table.Table:
    table = table.without_empty_columns()
    caption = Text(" ".join(map(printable, table.notes)))
    shown = rich.table.Table(
        title=Text(printable(table.caption)), caption=caption, caption_justify="left", title_justify="left"
    )
    for number, name in enumerate(table.header):
        shown.add_column(Text(printable(name)), justify="left" if number < table.n_words else "right")
    for row in table.named_cells():
        shown.add_row(*(Text(printable(cell), "bold" if strong else "") for cell, strong in row))
    return shown


def _text(text: str) -> Text:
    styles = {"plain": "", "code": "", "strong": "bold"}
    return Text.assemble(*((printable(part), styles[kind]) for kind, part in spans(text)))
