"""Finding things on the page of `nmg inspect`: search, order, pages, and what the corpus says."""

import math
from pathlib import Path

import numpy as np
import pytest

from nmg.inspection.render import InspectPage, write_inspect_page

from .inspect_steps import OpenPage, holding, names, rows_of, search, titles
from .inspected import page_of, texts_of


def test_search_finds_texts_that_hold_all_words(open_page: OpenPage, path: Path, made: InspectPage):
    page = open_page(path)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    assert page.input_value("#search") == ""
    wanted = holding(made.table.texts, "red", "gre")
    assert 0 < len(wanted) < 45
    search(page, "RED gre", f"{len(wanted)} of 45 texts")
    assert titles(page) == wanted[:20]
    hits = page.locator("article").first.locator(".view").first.locator(".hit").all_inner_texts()
    words = made.table.texts[wanted[0] - 1].split(" ")
    assert hits == [word for word in words if word in {"red", "green", "grey"}]
    search(page, "n4", "7 of 45 texts")
    assert titles(page) == [4, 40, 41, 42, 43, 44, 45]
    search(page, '"n4"', "1 of 45 texts")
    assert titles(page) == [4]
    search(page, "een", "0 of 45 texts")
    assert page.locator("#texts").inner_text() == "No text contains all of these words."
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.getElementById('found').textContent === '45 texts'")
    assert page.locator(".hit").count() == 0
    assert page.locator("#found").get_attribute("role") == "status"


def test_a_phrase_stands_in_this_order(open_page: OpenPage, tmp_path: Path):
    write_inspect_page(
        tmp_path / "page.html", page_of(texts_of(["red green", "green red", "Red, green", "red greens"]))
    )
    page = open_page(tmp_path / "page.html")
    search(page, '"red green"', "1 of 4 texts")
    assert titles(page) == [1]
    search(page, "red green", "4 of 4 texts")
    search(page, "red,", "1 of 4 texts")
    assert titles(page) == [3]
    assert page.locator('.view[data-masking="0"] .hit').all_inner_texts() == ["Red,"]


def test_pages_are_turned_by_buttons_keys_and_number(open_page: OpenPage, path: Path):
    page = open_page(path)
    above = page.get_by_role("navigation", name="Pages of texts", exact=True)
    back, forth = above.get_by_role("button", name="Previous page"), above.get_by_role("button", name="Next page")
    assert back.is_disabled()
    forth.click()
    assert titles(page) == list(range(21, 41))
    assert page.input_value("#page") == "2"
    page.keyboard.press("j")
    assert titles(page) == list(range(41, 46))
    assert forth.is_disabled()
    page.keyboard.press("ArrowRight")
    assert titles(page) == list(range(41, 46)), "there is no page 4"
    page.keyboard.press("k")
    page.keyboard.press("ArrowLeft")
    assert titles(page) == list(range(1, 21))
    page.fill("#page", "3")
    page.keyboard.press("Enter")
    assert titles(page)[0] == 41
    page.fill("#page", "99")
    page.keyboard.press("Enter")
    assert titles(page)[0] == 41
    assert page.input_value("#page") == "3"
    page.locator("#page").focus()
    page.keyboard.type("k")  # keys are letters where one types
    assert titles(page)[0] == 41
    page.locator("#search").focus()
    page.keyboard.type("n1")
    assert page.input_value("#search") == "n1"
    assert names(page) == ["first", "second"]


def test_texts_are_ordered_by_entropy(open_page: OpenPage, path: Path, made: InspectPage):
    page = open_page(path)
    probability = made.maskings[1].probability
    assert probability is not None
    exact = [-(p * np.log(p)).sum() for p in made.table.by_block(probability)]
    entropy = np.array([float(f"{nats:.4g}") for nats in exact])  # as the page rounds it
    page.select_option("#order", label="entropy of second, highest first")
    assert titles(page) == (np.argsort(-entropy, kind="stable")[:20] + 1).tolist()
    page.select_option("#order", label="entropy of second, lowest first")
    assert titles(page) == (np.argsort(entropy, kind="stable")[:20] + 1).tolist()
    page.select_option("#order", label="as in the file")
    assert titles(page) == list(range(1, 21))


# ---- the corpus


def test_shares_of_groups(open_page: OpenPage, path: Path):
    page = open_page(path)
    page.get_by_role("tab", name="Corpus").click()
    assert page.locator("#panel-texts").is_hidden()
    table = page.locator("table.shares")
    assert table.locator("thead th").all_inner_texts() == [
        *("Part of speech", "of all tokens", "first", "first, in use", "second")
    ]
    assert rows_of(table) == [
        ["noun", "60 % 60", "×1.25 75 %", "×0.00 0 %", "×1.00 60 %"],
        ["verb", "30 % 30", "×0.42 13 %", "×3.33 100 %", "×1.00 30 %"],
        ["none", "10 % 10", "×1.25 13 %", "×0.00 0 %", "×1.00 10 %"],
    ]
    bars = table.locator("tbody tr").first.locator(".ratio-bar")
    assert [bar.get_attribute("class") for bar in bars.all()] == ["ratio-bar more", "ratio-bar less", "ratio-bar more"]
    assert float(bars.first.evaluate("e => e.style.getPropertyValue('--length')")) == pytest.approx(
        math.log2(1.25) / 2, abs=1e-3
    )
    page.keyboard.press("1")
    assert table.locator("thead th").all_inner_texts() == ["Part of speech", "of all tokens", "second"]
    assert page.get_by_role("note").inner_text() == "Parts of speech need spaCy."
    assert rows_of(page.get_by_role("region", name="Entropy").locator("table")) == [["first", "1.23"]]


def test_most_and_least_masked_words(open_page: OpenPage, path: Path, made: InspectPage):
    page = open_page(path)
    page.keyboard.press("c")
    card = page.locator(".word-card").first
    most, least = card.locator("table").all()
    assert rows_of(most) == [
        ["green", "20", "80 %", "×2.00"],
        ["blue", "9", "40 %", "×1.00"],
        ["red", "50", "10 %", "×0.25"],
    ]
    assert [row[0] for row in rows_of(least)] == ["red", "blue", "green"]
    page.get_by_label("occurs at least").fill("1")
    assert rows_of(card.locator("table").first)[0] == ["rare", "2", "100 %", "×2.50"]
    page.get_by_label("contains").fill("RE")
    assert [row[0] for row in rows_of(card.locator("table").first)] == ["rare", "green", "red"]
    page.get_by_label("contains").fill("zebra")
    assert "No word matches." in page.locator(".word-lists").inner_text()
    page.get_by_label("contains").fill("green")
    card.get_by_role("button", name="green").first.click()
    wanted = holding(made.table.texts, "green")
    assert page.locator("#panel-texts").is_visible()
    assert page.input_value("#search") == '"green"'
    assert titles(page) == wanted[:20]


def test_tabs_by_arrow_keys(open_page: OpenPage, path: Path):
    page = open_page(path)
    page.locator("#tab-texts").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-corpus").is_visible()
    assert page.evaluate("document.activeElement.id") == "tab-corpus"
    assert page.locator("#tab-corpus").get_attribute("aria-selected") == "true"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#panel-texts").is_visible()
    page.keyboard.press("c")
    page.keyboard.press("t")
    assert page.locator("#panel-texts").is_visible()
