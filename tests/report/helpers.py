"""Looking at the content of a page, with its figures or without them."""

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from nmg.report.document import Document, Facts, Figure, Table
from nmg.report.html import render_html
from nmg.report.run_plots import Panel


def svgs(figure: str) -> list[ElementTree.Element]:
    """The wide and the narrow figure of a drawing."""
    return list(ElementTree.fromstring(f"<div>{figure}</div>"))


def facts_of(page: Document) -> dict[str, str]:
    return dict(next(block for block in page.sections[0].blocks if isinstance(block, Facts)).items)


def blocks_of(page: Document, heading: str) -> Sequence[Any]:
    return next(section.blocks for section in page.sections if section.heading == heading)


def tables_of(page: Document, heading: str) -> list[dict[str, tuple[str, ...]]]:
    """The tables of a section: first cell of a row → the others."""
    return [{row[0]: row[1:] for row in b.rows} for b in blocks_of(page, heading) if isinstance(b, Table)]


class Drawn:
    """What figures were asked to show: heading of a panel → its curves, and names of stacked bars → their heights."""

    def __init__(self) -> None:
        self.curves: dict[str, dict[str, Any]] = {}
        self.bars: list[dict[str, Any]] = []

    def curves_plot(self, panels: Sequence[Panel], _title: str, _stages: object = ()) -> str:
        self.curves |= {panel.heading: dict(panel.curves) for panel in panels}
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"

    def bars_plot(self, parts: dict[str, Any], _quantity: str, _title: str) -> str:
        self.bars.append(parts)
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"


def assert_fine(page: Document) -> str:
    html = render_html(page)
    assert len(html) < 4_000_000
    for block in (block for section in page.sections for block in section.blocks):
        if isinstance(block, Figure):
            assert len(block.svg) < 1_000_000
            assert len(svgs(block.svg)) <= 2
    assert not re.search(r">\s*(nan|inf|None)\b", html, flags=re.IGNORECASE)
    return html
