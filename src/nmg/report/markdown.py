"""Renders a document as GitHub-flavoured Markdown, without its figures and shaded texts."""

import re
from collections.abc import Iterator

from nmg.report.document import (
    Block,
    Details,
    Document,
    Facts,
    Links,
    Notice,
    Paragraph,
    Table,
    Verdict,
    paragraphs,
    spans,
)


def as_markdown(document: Document) -> str:
    """Return the document as Markdown; a table whose caption differs from its section's heading gets a heading."""
    parts = [f"# {_escape(document.title)}", _escape(document.subtitle)]
    for section in document.sections:
        parts.append(f"## {_escape(section.heading)}")
        for block in section.blocks:
            if isinstance(block, Table) and block.caption not in {"", section.heading}:
                parts.append(f"### {_escape(block.caption)}")
            parts += _parts(block)
    return "\n\n".join(filter(None, parts)) + "\n"


def table_lines(table: Table) -> str:
    """Return a table as Markdown, without its caption and notes."""
    table = table.without_empty_columns()
    rules = ["---" if column < table.n_words else "---:" for column in range(len(table.header))]
    rows = [
        [f"**{_escape(cell)}**" if strong else _escape(cell) for cell, strong in row] for row in table.named_cells()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in ([*map(_escape, table.header)], rules, *rows))


def _parts(block: Block) -> Iterator[str]:
    """Yield the paragraphs, lists and tables of a block as Markdown."""
    match block:
        case Paragraph(text):
            yield from map(_inline, paragraphs(text))
        case Notice(text):
            yield "\n>\n".join(f"> {_inline(part)}" for part in paragraphs(text))
        case Verdict():
            yield from (f"**{name}:** {_inline(text)}" for name, text in block.items())
        case Facts(items):
            yield "\n".join(f"- {_escape(name)}: {_escape(value)}" for name, value in items)
        case Links(items):
            names = [re.sub(r"([\[\]])", r"\\\1", _escape(name)) for name, _ in items]
            yield "\n".join(f"- [{name}]({address})" for name, (_, address) in zip(names, items, strict=True))
        case Details(summary, text):
            fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
            yield f"<details><summary>{_escape(summary)}</summary>"
            yield f"{fence}\n{text.rstrip()}\n{fence}"
            yield "</details>"
        case Table():
            yield table_lines(block)
            yield "\n".join(map(_escape, block.notes))


def _inline(text: str) -> str:
    marks = {"plain": "", "code": "`", "strong": "**"}
    parts = [(marks[kind], part if kind == "code" else _escape(part)) for kind, part in spans(text)]
    return "".join(f"{mark}{part}{mark}" for mark, part in parts)


def _escape(text: str) -> str:
    """Escape characters that Markdown or HTML would read as markup; `<` becomes an entity, which both understand."""
    text = re.sub(r"([\\`*_|])", r"\\\1", text.replace("&", "&amp;"))
    return text.replace("<", "&lt;")
