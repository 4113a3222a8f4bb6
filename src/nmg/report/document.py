"""Content of a page or file as a tree of small records, without layout.

The modules `html`, `markdown`, `latex` and `terminal` render the records. Only these modules escape text.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from nmg.report.numbers import NOTHING


@dataclass(frozen=True)
class Paragraph:
    """Text with the markup of `spans`; a blank line starts a new paragraph."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A highlighted warning; the text has the markup of `Paragraph`."""

    text: str


@dataclass(frozen=True)
class Verdict:
    """The answer to the question of a page, the reasons for it, and the command to run next."""

    verdict: str
    why: str = ""
    command: str = ""

    def items(self) -> list[tuple[str, str]]:
        """Return (name, text) of each part that is not empty; the command is marked up as code."""
        command = f"`{self.command}`" if self.command else ""
        return [part for part in (("Verdict", self.verdict), ("Why", self.why), ("Next", command)) if part[1]]


@dataclass(frozen=True)
class Facts:
    """Short (name, value) pairs: settings, counts, versions."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Links:
    """Links to other pages: (text, relative address). Addresses are generated paths, never text from a user."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Details:
    """Preformatted text that is folded under its summary line."""

    summary: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table of text cells that are already formatted; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    caption: str = ""
    n_words: int = 1
    """Number of first columns that contain words and are aligned left; the others are aligned right."""
    highlighted: frozenset[tuple[int, int]] = frozenset()
    """Cells to emphasise: (row, column), both from 0."""
    marks: tuple[tuple[int, str], ...] = ()
    """Rows to emphasise: (row from 0, reason), such as 'best' or 'selected'. Pages print the reason after the name."""

    def mark(self, row: int) -> str:
        """Return the reasons to emphasise a row, such as 'best, selected'; empty if it is like the others."""
        return ", ".join(reason for marked, reason in self.marks if marked == row)

    def named_cells(self) -> Iterator[list[tuple[str, bool]]]:
        """Yield each row as `cells` does, with the name of a marked row emphasised and followed by its reasons."""
        for row, cells in enumerate(self.cells()):
            if reasons := self.mark(row):
                cells[0] = (f"{cells[0][0]} ({reasons})", True)
            yield cells

    def cells(self) -> Iterator[list[tuple[str, bool]]]:
        """Yield each row as pairs (text of a cell, whether it is highlighted)."""
        for row, cells in enumerate(self.rows):
            yield [(cell, (row, column) in self.highlighted) for column, cell in enumerate(cells)]

    def columns(self, wanted: Sequence[int]) -> "Table":
        """Return a copy with only the wanted columns (indices from 0), in that order."""
        return replace(
            self,
            header=tuple(self.header[column] for column in wanted),
            n_words=sum(column < self.n_words for column in wanted),
            rows=tuple(tuple(row[column] for column in wanted) for row in self.rows),
            highlighted=frozenset((row, wanted.index(at)) for row, at in self.highlighted if at in wanted),
        )

    def without_empty_columns(self) -> "Table":
        """Return a copy without the columns in which no row has a value; all renderers show this copy."""
        kept = [
            column
            for column in range(len(self.header))
            if column == 0 or not self.rows or any(row[column] not in {NOTHING, ""} for row in self.rows)
        ]
        return self if len(kept) == len(self.header) else self.columns(kept)


@dataclass(frozen=True)
class Figure:
    """A figure; its SVG must come from `report.plots`, because it is not escaped."""

    svg: str
    caption: str = ""


@dataclass(frozen=True)
class ShadedToken:
    """A token and the probability that a masking selects it."""

    text: str
    probability: float
    starts_word: bool = True
    """Whether the token starts a word; if not, it is displayed joined to the previous token."""
    is_special: bool = False
    is_masked: bool = False
    """Whether the masking selected the token; such a token is underlined."""


@dataclass(frozen=True)
class ShadedRow:
    """The tokens of a text with the probability that one masking selects each."""

    name: str
    tokens: tuple[ShadedToken, ...]


@dataclass(frozen=True)
class ShadedText:
    """One text with one row per masking; equal shades mean equal probabilities in all its rows."""

    heading: str
    rows: tuple[ShadedRow, ...]

    @property
    def top(self) -> float:
        """The highest probability in the text, which gets the full shade; 1 if all probabilities are zero."""
        return max((token.probability for row in self.rows for token in row.tokens), default=0.0) or 1.0


@dataclass(frozen=True)
class ShadedTexts:
    """Several shaded texts under one legend."""

    texts: tuple[ShadedText, ...]

    @property
    def has_masked(self) -> bool:
        """Whether any token is underlined."""
        return any(token.is_masked for text in self.texts for row in text.rows for token in row.tokens)


Block: TypeAlias = Paragraph | Notice | Verdict | Facts | Links | Details | Table | Figure | ShadedTexts


@dataclass(frozen=True)
class Section:
    """A heading with its blocks."""

    heading: str
    blocks: Sequence[Block] = ()
    is_folded: bool = False
    """Whether a page shows only the heading until the reader opens the section."""


@dataclass(frozen=True)
class Document:
    """The content of a whole page."""

    title: str
    subtitle: str = ""
    sections: Sequence[Section] = ()
    refresh_seconds: int | None = None
    """Interval in seconds at which the browser reloads the page; None if it is no longer updated."""

    def tables(self) -> list[Table]:
        """Return the tables of all sections, in their order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Table)]


SpanKind: TypeAlias = Literal["plain", "code", "strong"]


def paragraphs(text: str) -> list[str]:
    """Split text into paragraphs at blank lines, and replace every run of whitespace in a paragraph by one space."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip())]


def spans(text: str) -> Iterator[tuple[SpanKind, str]]:
    """Yield (kind, text) of the pieces of a text with markup: `code` in backticks, **strong** in double asterisks.

    >>> list(spans("Raise `meta.episodes` **now**"))
    [('plain', 'Raise '), ('code', 'meta.episodes'), ('plain', ' '), ('strong', 'now')]
    """
    kinds: tuple[SpanKind, ...] = ("plain", "code", "strong")
    for at, part in enumerate(re.split(r"`([^`]+)`|\*\*([^*]+)\*\*", text)):
        if part:
            yield kinds[at % 3], part
