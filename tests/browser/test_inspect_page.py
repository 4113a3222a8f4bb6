"""The page of `nmg inspect` in a real browser: what is shown, and what clicks, taps and keys do."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nmg.inspection.render import InspectPage, write_inspect_page
from nmg.inspection.tags import Labels
from support.browser import DESKTOP, PHONE, open_page

from .inspect_steps import OpenPage, facts_of, focused, names, search, titles, token
from .inspected import DRAWS, N_TEXTS, colour_texts, page_of, table_of, texts_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# ---- what is shown


def test_it_opens(open_page: OpenPage, path: Path, made: InspectPage):
    page = open_page(path)
    assert page.title() == "What is masked"
    assert titles(page) == list(range(1, 21))
    assert names(page) == ["first", "second"]
    for text, content in enumerate(made.table.texts[:20]):
        for line in page.locator(f'article[data-text="{text}"] .tokens').all():
            assert line.inner_text() == content
    assert page.locator("#found").inner_text() == f"{N_TEXTS} texts"
    assert page.locator("article").first.locator("h3 small").inner_text() == "8 tokens, 2 masked"
    assert page.locator("#corpus").is_hidden()


def test_shades_and_marks_are_those_of_the_numbers(open_page: OpenPage, path: Path, made: InspectPage):
    page = open_page(path)
    shown = page.evaluate(
        """() => [...document.querySelectorAll("article .view")].map((view) => ({
            text: Number(view.closest("article").dataset.text), masking: Number(view.dataset.masking),
            shades: [...view.querySelectorAll(".token")].map((t) => Number(t.style.getPropertyValue("--p"))),
            taken: [...view.querySelectorAll(".token.masked")].map((t) => Number(t.dataset.token)),
        }))"""
    )
    assert len(shown) == 40
    for view in shown:
        masking = made.maskings[view["masking"]]
        share = made.table.by_block(masking.drawn)[view["text"]] / DRAWS
        assert view["shades"] == pytest.approx(np.sqrt(share), abs=6e-4)
        assert masking.taken is not None
        assert view["taken"] == np.flatnonzero(made.table.by_block(masking.taken)[view["text"]]).tolist()

    page.select_option("#shade", "chance")
    for masking, probability in enumerate([made.maskings[0].probability, made.maskings[1].probability]):
        assert probability is not None
        for number, p in enumerate(made.table.by_block(probability)[0]):
            level = min(max(math.log2(p * 8) / 2, -1), 1)
            element = token(page, 0, number, masking)
            assert float(element.evaluate("e => e.style.getPropertyValue('--p')")) == pytest.approx(
                abs(level), abs=1e-3
            )
            assert element.evaluate("e => e.classList.contains('less')") == (level < 0)
    assert "equal chances" in page.locator("#scale").inner_text()


def test_odd_texts_are_shown_as_they_are(open_page: OpenPage, tmp_path: Path):
    evil = "</script><script>window.evil=1</script>"
    texts = [f"a {evil} z", "😀 cat😀 \u2028 end", "é shared", "line one\n\n  line two", "x" * 3000]
    shown = table_of(
        texts,
        [
            np.array([[0, 1], [2, 2 + len(evil)]]),
            np.array([[0, 1], [5, 6]]),
            np.array([[0, 1], [0, 1]]),
            np.array([[0, 4], [17, 20]]),
            np.array([[0, 2999], [2999, 3000]]),
        ],
    )
    titles = [f"Text {number} {evil}" for number in range(1, 6)]
    write_inspect_page(tmp_path / "odd.html", page_of(shown, k=1, titles=titles))
    page = open_page(tmp_path / "odd.html")
    assert page.evaluate("window.evil") is None
    lines = page.locator('.view[data-masking="0"] .tokens')
    assert lines.evaluate_all("lines => lines.map((line) => line.textContent)") == [
        *texts[:2],
        "é· shared",
        *texts[3:],
    ]
    tokens = page.locator('.view[data-masking="0"] .token').evaluate_all("all => all.map((token) => token.textContent)")
    assert tokens == ["a", evil, "😀", "😀", "é", "·", "line", "two", "x" * 2999, "x"]


# ---- maskings


def test_maskings_are_switched_by_clicks_and_digits(open_page: OpenPage, path: Path):
    page = open_page(path)
    buttons = page.locator("#maskings button")
    assert buttons.all_inner_texts() == ["first\n1", "second\n2", "random\n3"]
    buttons.nth(0).click()
    assert names(page) == ["second"]
    page.keyboard.press("3")
    assert names(page) == ["second", "random"]
    assert [button.get_attribute("aria-pressed") for button in buttons.all()] == ["false", "true", "true"]
    assert page.locator(".view[data-masking='2'] .token.masked").count() == 0, "a rule has no greedy choice"
    page.keyboard.press("2")
    page.keyboard.press("9")
    assert page.locator("#greedy-key").is_hidden()
    page.keyboard.press("3")
    assert page.locator("#texts").inner_text() == "No masking is selected."
    page.keyboard.press("1")
    assert names(page) == ["first"]


def test_views_stand_side_by_side_on_a_desk_and_below_each_other_on_a_phone(open_page: OpenPage, path: Path):
    for screen, beside in ((DESKTOP, True), (PHONE, False)):
        page = open_page(path, screen)
        if not beside:
            assert names(page) == ["first"], "one masking to begin with"
            page.locator("#maskings button").nth(1).tap()
        first, second = (page.locator("article").first.locator(".view").nth(i).bounding_box() for i in (0, 1))
        assert first is not None
        assert second is not None
        assert (second["y"] < first["y"] + first["height"]) == beside
        assert (second["x"] > first["x"]) == beside


# ---- a token


def test_without_a_token_the_panel_has_the_most_masked_words(open_page: OpenPage, path: Path):
    """Of the words that occur five times; as many sections as maskings are shown."""
    page = open_page(path)
    details = page.get_by_role("region", name="the corpus")
    sections = details.locator("section")
    assert sections.locator("h4").all_inner_texts() == ["first", "second"]
    assert facts_of(sections.nth(0)) == {"green": "80 % masked", "blue": "40 % masked", "red": "10 % masked"}
    page.keyboard.press("3")
    assert sections.locator("h4").all_inner_texts() == ["first", "second", "random"]
    details.get_by_role("button", name="green").first.click()
    assert page.locator("#search").input_value() == '"green"'


def test_a_click_shows_what_is_known_of_a_token(open_page: OpenPage, path: Path, made: InspectPage):
    page = open_page(path)
    details = page.get_by_role("region", name="The chosen token")
    token(page, 3, 5).click()
    assert details.locator("q").inner_text() == made.table.texts[3].split(" ")[5]
    assert facts_of(details)["token"] == "6 of 8, Text 4"
    sections = details.locator("section").all()
    assert [section.locator("h4").inner_text() for section in sections] == ["first", "second", "random"]
    for section, masking in zip(sections, made.maskings, strict=True):
        facts = facts_of(section)
        drawn = made.table.by_block(masking.drawn)[3]
        assert facts["drawn"].startswith(f"{drawn[5]} of 100 draws (")
        if masking.probability is None or masking.taken is None:
            assert facts["rank by draws"] == f"{1 + (drawn > drawn[5]).sum()} of 8"
            assert set(facts) == {"drawn", "relative to chance", "rank by draws"}
            continue
        p = made.table.by_block(masking.probability)[3]
        assert float(facts["probability per draw"].rstrip(" %")) == pytest.approx(100 * p[5], rel=6e-3)
        assert float(facts["relative to chance"].lstrip("×")) == pytest.approx(8 * p[5], abs=0.006)
        assert facts["rank"] == f"{1 + (p > p[5]).sum()} of 8"
        assert facts["masked in use"] == ("yes, k = 2" if made.table.by_block(masking.taken)[3][5] else "no, k = 2")
    assert page.locator(".token.chosen").count() == 2, "the token in both columns"

    details.get_by_role("button", name="Close").click()
    assert details.locator("h3").inner_text() == "Most masked words"
    assert focused(page) == (3, 0, 5)


def test_pieces_of_a_word_and_labels(open_page: OpenPage, tmp_path: Path):
    spans = np.array([[0, 3], [4, 7], [7, 9], [9, 10]])
    table = table_of(["the cattys"], [spans], word=np.array([0, 1, 1, 1]))
    labels = {"part of speech": Labels(("noun", "determiner"), np.array([1, 0]))}
    write_inspect_page(tmp_path / "page.html", page_of(table, labels=labels))
    page = open_page(tmp_path / "page.html")
    for number, word in ((1, "cattys (piece 1 of 3)"), (3, "cattys (piece 3 of 3)")):
        token(page, 0, number).click()
        facts = facts_of(page.locator("#details > dl"))
        assert facts == {"token": f"{number + 1} of 4, Text 1", "word": word, "part of speech": "noun"}
    token(page, 0, 0).click()
    assert facts_of(page.locator("#details > dl")) == {"token": "1 of 4, Text 1", "part of speech": "determiner"}


def test_tokens_by_keyboard_alone(open_page: OpenPage, path: Path):
    page = open_page(path)
    assert page.locator('#texts [tabindex="0"]').count() == 1
    page.locator("#page").focus()
    for _ in range(5):
        page.keyboard.press("Tab")
        if focused(page):
            break
    assert focused(page) == (0, 0, 0)

    def press(*keys: str) -> tuple[int, int, int] | None:
        for key in keys:
            page.keyboard.press(key)
        return focused(page)

    assert press("ArrowRight", "ArrowRight", "ArrowLeft") == (0, 0, 1)
    assert press("End") == (0, 0, 7)
    assert press("ArrowRight") == (1, 0, 0), "on to the next text, in the same column"
    assert press("ArrowLeft", "Home") == (0, 0, 0)
    assert press("ArrowRight") == (0, 0, 1)
    assert page.locator('#texts [tabindex="0"]').evaluate_all("all => all.map((e) => e.dataset.token)") == ["1"]
    press("ArrowLeft")
    assert page.locator("#details q").count() == 0
    press("Enter")
    assert facts_of(page.locator("#details > dl"))["token"] == "1 of 8, Text 1"
    press("ArrowRight")
    assert facts_of(page.locator("#details > dl"))["token"] == "2 of 8, Text 1", "details follow the focus"
    assert press("Escape") == (0, 0, 1)
    assert page.locator("#details q").count() == 0
    assert page.locator('#texts [tabindex="0"]').count() == 1


def test_arrows_lead_to_the_lines_above_and_below(open_page: OpenPage, tmp_path: Path):
    """To the token that stands nearest there, and from text to text."""
    write_inspect_page(tmp_path / "page.html", page_of(texts_of(colour_texts(2, length=40))))
    page = open_page(tmp_path / "page.html", PHONE)
    boxes = page.locator("#texts .token").evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect()).map((b) => [b.top + scrollY, b.left, b.right])"
    )
    lines: list[list[int]] = []
    for number, (top, _, _) in enumerate(boxes):
        if not number or top > boxes[number - 1][0] + 5:
            lines.append([])
        lines[-1].append(number)
    assert len(lines) > 6

    def nearest(token: int, line: list[int]) -> int:
        _, left, right = boxes[token]
        middle = (left + right) / 2
        return min(line, key=lambda other: max(boxes[other][1] - middle, middle - boxes[other][2], 0))

    at = lines[0][1]
    page.locator("#texts .token").nth(at).focus()
    way = [*lines[1:], *lines[-2::-1]]
    for key, line in zip(["ArrowDown"] * (len(lines) - 1) + ["ArrowUp"] * (len(lines) - 1), way, strict=True):
        at = nearest(at, line)
        page.keyboard.press(key)
        assert focused(page) == (at // 40, 0, at % 40)
    page.keyboard.press("ArrowUp")
    assert focused(page) == (at // 40, 0, at % 40), "there is nothing above"


# ---- sizes, colours, network


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 000 texts of 100 tokens."""
    texts = texts_of(colour_texts(10_000, length=100))
    written = tmp_path_factory.mktemp("large") / "page.html"
    write_inspect_page(written, page_of(texts, k=15))
    return written


def test_ten_thousand_texts(open_page: OpenPage, large: Path):
    assert large.stat().st_size < 25e6
    page = open_page(large)

    def nodes() -> int:
        count: int = page.evaluate("document.querySelectorAll('*').length")
        return count

    assert 1000 < nodes() < 8000, "only one page of texts is in the document"
    for key in ("3", "j", "j"):
        page.keyboard.press(key)
    assert nodes() < 8000
    search(page, "n9999", "1 of 10,000 texts")
    assert titles(page) == [9999]
    search(page, "", "10,000 texts")
    last = int(page.locator("#pages").inner_text().removeprefix("of ").replace(",", ""))
    page.fill("#page", str(last))
    page.keyboard.press("Enter")
    assert titles(page)[-1] == 10_000
    assert nodes() < 8000


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(open_page: OpenPage, path: Path, dark: bool):
    page = open_page(path, PHONE, dark=dark)
    token(page, 0, 3).tap()
    box = page.locator("#details").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] == pytest.approx(PHONE.height, abs=1), "a sheet at the bottom"
    assert box["y"] >= PHONE.height * 0.4
    page.locator("#details .close").tap()
    assert page.locator("#details").is_hidden()
    for tab in ("corpus", "texts"):
        page.locator(f"#tab-{tab}").tap()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE.width, "nothing sticks out"
    red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (red + green + blue < 200) == dark


def test_text_can_be_read_on_every_shade(open_page: OpenPage, path: Path):
    """Contrast of 4.5 or more (WCAG 2.2, 1.4.3), on the full shade and in both colour schemes."""
    for dark in (False, True):
        page = open_page(path, dark=dark)
        for shade in ("drawn", "chance"):
            page.select_option("#shade", shade)
            for step in (page.locator(".step").first, page.locator(".step").last):
                ink, ground = step.evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]")
                paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
                assert contrast(ink, ground, paper) >= 4.5, (dark, shade, ink, ground)


def contrast(ink: str, ground: str, paper: str) -> float:
    """WCAG's ratio of a colour on another that may let the paper shine through."""

    def parse(colour: str) -> tuple[list[float], float]:
        numbers = [float(number) for number in re.findall(r"[\d.]+", colour)]
        return numbers[:3], numbers[3] if len(numbers) > 3 else 1.0

    def luminance(channels: Sequence[float]) -> float:
        linear = [c / 3294.6 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    over, share = parse(ground)
    under, _ = parse(paper)
    mixed = [share * o + (1 - share) * u for o, u in zip(over, under, strict=True)]
    light, dark = sorted((luminance(parse(ink)[0]), luminance(mixed)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_page_lets_nothing_in(chromium: "Browser", path: Path):
    """What someone adds to the page later on can neither load nor run anything."""
    with open_page(chromium, path) as opened:
        opened.check()
        opened.page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.evil = 1";
                const image = document.createElement("img");
                image.src = "http://127.0.0.1:9/x.png";
                document.body.append(script, image);
                return fetch("http://127.0.0.1:9/").catch(() => 0);
            }"""
        )
        assert opened.page.evaluate("window.evil") is None
        for directive in ("script-src", "img-src", "connect-src"):
            assert any(directive in line and "blocked" in line for line in opened.errors), directive


def test_a_page_without_policies_has_less(open_page: OpenPage, path: Path, made: InspectPage, tmp_path: Path):
    rules = replace(made, maskings=made.maskings[2:], views=[("random", 0)])
    rules = replace(rules, shares=[replace(s, masked=s.masked[3:]) for s in made.shares])
    rules = replace(rules, words=replace(made.words, rates=made.words.rates[3:]))
    write_inspect_page(tmp_path / "page.html", rules)
    page = open_page(tmp_path / "page.html")
    assert names(page) == ["random"]
    assert page.locator("#order").is_hidden()
    assert page.locator("#greedy-key").is_hidden()
