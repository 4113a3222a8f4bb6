"""Pages of reports in a browser: what a phone shows, and where the keyboard is."""

from pathlib import Path

import pytest

from nmg.report.document import Details, Document, Figure, Section, Table
from nmg.report.html import write_html
from nmg.report.plots import results_plot
from support.browser import DESKTOP, PHONE

from .conftest import OpenPage

NARROW = Table(("name", "score"), (("random", "1.0"),), caption="Narrow")
WIDE = Table(("name", *(f"column {n}" for n in range(9))), (("random", *["1.0 ± 0.1"] * 9),), caption="Wide")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    figure = Figure(results_plot({"random": [0.1, 0.2], "learned": [0.2, 0.3]}, "accuracy"), "A caption.")
    sections = [
        Section("Tables", [NARROW, WIDE]),
        Section("Figure", [figure]),
        Section("Settings", [Details("All settings", "seed: 0")]),
    ]
    write_html(path, Document("Report", sections=sections))
    return path


def test_wide_tables_say_that_they_scroll(open_page: OpenPage, report: Path):
    for screen, said in ((PHONE, ["Wide"]), (DESKTOP, [])):
        page = open_page(report, screen)
        regions = page.locator(".wide").all()
        scrolling = [one for one in regions if one.evaluate("e => e.scrollWidth > e.clientWidth")]
        assert [one.get_attribute("aria-label") for one in scrolling] == said
        shown = [one for one in regions if one.locator(".scrolls").is_visible()]
        assert [one.get_attribute("aria-label") for one in shown] == said
        assert page.evaluate("document.documentElement.scrollWidth") == screen.width


def test_a_figure_fits_and_keeps_its_letters(open_page: OpenPage, report: Path):
    for screen, kind in ((PHONE, "on-narrow"), (DESKTOP, "on-wide")):
        page = open_page(report, screen)
        shown = [one for one in page.locator("figure svg").all() if one.is_visible()]
        assert [one.get_attribute("class") for one in shown] == [kind]
        box = shown[0].bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= screen.width
        heights = shown[0].locator("text").evaluate_all("all => all.map((e) => e.getBoundingClientRect().height)")
        assert min(heights) >= 10, "pixels"


def test_the_keyboard_is_always_seen(open_page: OpenPage, report: Path):
    page = open_page(report)
    outlines = []
    for _ in range(6):  # three links, two tables, one fold
        page.keyboard.press("Tab")
        outlines.append(page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)"))
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert min(outlines) >= 2
    page.keyboard.press("Enter")
    assert page.locator("pre").is_visible()
