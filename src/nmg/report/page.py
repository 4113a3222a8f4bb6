"""One self-contained HTML page: text, facts, tables, figures, and texts shaded by masking probability.

A page is a tree of small records. Everything a record holds is escaped but a `Plot`'s SVG, which `report.plots` drew.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import jinja2
from markupsafe import Markup, escape

from nmg.files import write_text
from nmg.report.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """Plain text; a blank line begins a new paragraph, `code` and **strong** are marked up."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A warning that stands out; text as in `Paragraph`."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Short (name, value) pairs: settings, counts, versions."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Links:
    """Other pages: (what is shown, address from this page). An address is a path that we made, never a user's text."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Listing:
    """Preformatted text behind a line to click on."""

    summary: str
    text: str


@dataclass(frozen=True)
class Plot:
    """A figure: SVG from `report.plots`, trusted."""

    svg: str
    caption: str = ""


@dataclass(frozen=True)
class ShadedToken:
    """A token and the probability that a masking gives to masking it."""

    text: str
    probability: float
    starts_word: bool = True
    """False joins it to the token before"""
    is_special: bool = False
    is_masked: bool = False
    """True underlines it: the masking takes this token"""


@dataclass(frozen=True)
class ShadedRow:
    """One masking's view of a text."""

    name: str
    tokens: tuple[ShadedToken, ...]


@dataclass(frozen=True)
class ShadedText:
    """One text, a row for each masking; shades are comparable between its rows."""

    heading: str
    rows: tuple[ShadedRow, ...]

    @property
    def top(self) -> float:
        """The highest probability of the text, shaded fully; 1 where all are zero."""
        return max((token.probability for row in self.rows for token in row.tokens), default=0.0) or 1.0


@dataclass(frozen=True)
class ShadedTexts:
    """Several shaded texts under one legend."""

    texts: tuple[ShadedText, ...]

    @property
    def has_masked(self) -> bool:
        return any(token.is_masked for text in self.texts for row in text.rows for token in row.tokens)


Block: TypeAlias = Paragraph | Notice | Facts | Links | Listing | Table | Plot | ShadedTexts


@dataclass(frozen=True)
class Section:
    heading: str
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class PageContent:
    title: str
    subtitle: str = ""
    sections: Sequence[Section] = ()
    refresh_seconds: int | None = None
    """the browser loads the page again after so long, for one that is still being rewritten"""


SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""The page has no script, and runs none that a text in it may hold; shades and figures have styles of their own."""


def render_page(content: PageContent) -> str:
    """The page as HTML. It loads nothing: style and figures are inside."""
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
    """Render the page into `path`, which is replaced only when the new page is whole."""
    write_text(path, render_page(content))


def _marked_up(text: str) -> Markup:
    """Escaped text with <p>, <code> and <strong>."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        html = str(escape(" ".join(paragraph.split())))
        html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
        html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
        paragraphs.append(f"<p>{html}</p>")
    return Markup("\n".join(paragraphs))
