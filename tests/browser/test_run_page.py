"""The page of a meta-training in a real browser: it reads well on desktop and phone, and follows a run."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nmg.meta_training.log import RunLog
from nmg.report.html import write_html
from nmg.report.run_page import run_page
from support.browser import DESKTOP, PHONE, Screen
from support.run_logs import PROBABILITIES, TEXTS, UPDATE, config_of, episode, log_of, search_episode, snapshot

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from browser.conftest import OpenPage


@pytest.fixture(scope="module")
def log() -> RunLog:
    """Twelve episodes with an opponent, warnings, and a text longer than a phone is wide."""
    high = UPDATE | {"ratio_max": 5000.0}
    episodes = [episode(i, 0.5, 0.4, 0.6, learner_update=high, opponent_update=UPDATE) for i in range(12)]
    text = {name: value * 20 if isinstance(value, list) else value for name, value in TEXTS[0].items()}
    snapshots = [snapshot(n, PROBABILITIES * 20) for n in range(13)]
    return log_of(*episodes, planned=20, texts=[text], snapshots=snapshots, facts={"command": ["nmg", "x" * 500]})


@pytest.fixture(scope="module")
def path(log: RunLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_html(path, run_page(log))
    return path


def colour(page: "Page", selector: str, name: str) -> str:
    script = "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]"
    return str(page.evaluate(script, [selector, name]))


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_wider_than_the_screen(open_page: "OpenPage", path: Path, screen: Screen, dark: bool):
    """A table on a phone scrolls in a box of its own; a figure fits."""
    page = open_page(path, screen, dark=dark)
    for summary in page.query_selector_all("summary"):
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= screen.width
    widths = [box["width"] for svg in page.locator("figure svg").all() if (box := svg.bounding_box())]
    assert len(widths) == 5, "of the two for wide and narrow screens, one is visible"
    assert min(widths) > (500 if screen is DESKTOP else 300), "figures stay legible"
    assert max(widths) <= screen.width, "figures do not scroll"


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_text_of_a_figure_is_cut_off(open_page: "OpenPage", path: Path, tmp_path: Path, screen: Screen):
    other = tmp_path / "other.html"
    episodes = [search_episode(i, *(0.4 + n / 100 for n in range(8))) for i in range(12)]
    write_html(other, run_page(log_of(*episodes, config=config_of(12, "random-search"))))
    for shown, n_figures in ((path, 5), (other, 2)):
        page = open_page(shown, screen)
        for summary in page.query_selector_all("summary"):
            summary.click()
        assert page.locator("figure svg").filter(visible=True).count() == n_figures
        cut = page.evaluate(
            """() => [...document.querySelectorAll("figure svg text")].filter((text) => {
                const inner = text.getBoundingClientRect(), outer = text.closest("svg").getBoundingClientRect();
                return inner.left < outer.left - 1 || inner.right > outer.right + 1
                    || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
            }).map((text) => text.textContent)"""
        )
        assert cut == []


def test_figures_take_the_colours_of_the_page(open_page: "OpenPage", path: Path):
    pages = [open_page(path, dark=dark) for dark in (False, True)]
    for selector, name in (("body", "backgroundColor"), ("svg text", "fill"), (".notice", "backgroundColor")):
        light, dark = (colour(page, selector, name) for page in pages)
        assert light != dark, selector
    assert colour(pages[1], "svg text", "fill") == colour(pages[1], "body", "color")


def test_the_links_lead_to_their_sections(open_page: "OpenPage", path: Path):
    page = open_page(path)
    links = page.locator("nav a").all()
    assert [link.inner_text() for link in links] == [heading.inner_text() for heading in page.locator("h2").all()]
    links[4].click()
    assert page.evaluate("location.hash") == "#section-5"
    top = page.locator("h2").nth(4).bounding_box()
    assert top is not None
    assert 0 <= top["y"] < DESKTOP.height


def test_settings_open_with_the_keyboard(open_page: "OpenPage", path: Path):
    page = open_page(path)
    listing = page.locator("details").filter(has_text="All settings")
    assert not page.get_by_text("checkpoint_every").is_visible()
    listing.locator("summary").focus()
    page.keyboard.press("Enter")
    assert page.get_by_text("checkpoint_every").is_visible()


def test_likelier_tokens_are_shaded_darker(open_page: "OpenPage", path: Path):
    page = open_page(path)
    tokens = page.locator(".view p").first.locator(".token:not(.special)")
    shades = [
        float(tokens.nth(i).evaluate("token => getComputedStyle(token).backgroundColor.match(/[\\d.]+(?=\\))/)[0]"))
        for i in range(1, 5)
    ]
    assert shades == sorted(shades, reverse=True)
    assert len(set(shades)) == 4
    assert tokens.nth(0).get_attribute("title") == "0.4, masked"


def test_an_open_page_follows_the_run(open_page: "OpenPage", log: RunLog, tmp_path: Path):
    path = tmp_path / "report.html"
    write_html(path, run_page(replace(log, episodes=log.episodes[:3]), refresh_seconds=1))
    page = open_page(path, PHONE)
    assert page.locator(".subtitle").inner_text() == "nmg learn · 3 of 20 episodes"
    write_html(path, run_page(log, refresh_seconds=1))
    # without a script, which the page's policy forbids
    page.get_by_text("nmg learn · 12 of 20 episodes", exact=True).wait_for()
    assert page.locator(".notice").count() == 1
    assert page.locator("meta[http-equiv=refresh]").count() == 1
