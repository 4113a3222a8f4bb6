"""One self-contained HTML page: text, facts, tables, figures, and texts shaded by masking probability.

A page is a tree of small records. All their content is escaped except the SVG of a `Plot`, which `report.plots` draws.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import jinja2
from markupsafe import Markup, escape

from nmg.base.files import write_text
from nmg.report.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """Plain text: a blank line starts a new paragraph; `code` and **strong** are marked up."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A highlighted warning; the text has the markup of `Paragraph`."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Short (name, value) pairs: settings, counts, versions."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Links:
    """Links to other pages: (text, relative address). Addresses are generated paths, never text from a user."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Listing:
    """Preformatted text that a click on its summary line opens."""

    summary: str
    text: str


@dataclass(frozen=True)
class Plot:
    """A figure; its SVG must come from `report.plots`, because it is not escaped."""

    svg: str
    caption: str = ""


@dataclass(frozen=True)
class ShadedToken:
    """A token and the probability that a masking selects it."""

    text: str
    probability: float
    starts_word: bool = True
    """False joins the token to the previous one."""
    is_special: bool = False
    is_masked: bool = False
    """True underlines the token: the masking selects it."""


@dataclass(frozen=True)
class ShadedRow:
    """One masking's view of a text."""

    name: str
    tokens: tuple[ShadedToken, ...]


@dataclass(frozen=True)
class ShadedText:
    """One text with one row per masking; shades are comparable between its rows."""

    heading: str
    rows: tuple[ShadedRow, ...]

    @property
    def top(self) -> float:
        """The highest probability in the text, which gets the full shade; 1 if all are zero."""
        return max((token.probability for row in self.rows for token in row.tokens), default=0.0) or 1.0


@dataclass(frozen=True)
class ShadedTexts:
    """Several shaded texts under one legend."""

    texts: tuple[ShadedText, ...]

    @property
    def has_masked(self) -> bool:
        """Whether any token is underlined."""
        return any(token.is_masked for text in self.texts for row in text.rows for token in row.tokens)


Block: TypeAlias = Paragraph | Notice | Facts | Links | Listing | Table | Plot | ShadedTexts


@dataclass(frozen=True)
class Section:
    """A heading with its blocks."""

    heading: str
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class PageContent:
    """Content of a whole page."""

    title: str
    subtitle: str = ""
    sections: Sequence[Section] = ()
    refresh_seconds: int | None = None
    """Interval in seconds at which the browser reloads a page that is still being updated; None for never."""


SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Forbids all scripts, including any in a text of the page; shades and figures use inline styles."""


def render_page(content: PageContent) -> str:
    """Return the page as HTML. It loads nothing: style and figures are inline."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nmg.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"marked_up": _marked_up, "trusted": Markup}
    environment.tests["of_kind"] = lambda block, kind: type(block).__name__ == kind
    return environment.get_template("run.html.j2").render(page=content, security_policy=SECURITY_POLICY)


def write_page(path: Path, content: PageContent) -> None:
    """Render the page into `path`, which is replaced atomically."""
    write_text(path, render_page(content))


def _marked_up(text: str) -> Markup:
    """Escape text and marks it up with <p>, <code> and <strong>."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        html = str(escape(" ".join(paragraph.split())))
        html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
        html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
        paragraphs.append(f"<p>{html}</p>")
    return Markup("\n".join(paragraphs))
