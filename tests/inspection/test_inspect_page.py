"""What goes into the page: numbers packed and found again, texts that cannot break out, nothing from elsewhere."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmg.inspection.draws import Observed
from nmg.inspection.render import (
    LARGEST_PACKED,
    LOG_STEPS,
    PACKED_FROM,
    InspectPage,
    Shares,
    Words,
    pack_probabilities,
    pack_spans,
    packed,
    render_inspect_page,
    write_inspect_page,
)
from nmg.inspection.tags import Labels
from nmg.inspection.tokens import TokenTable
from nmg.report.document import Facts, Table

EVIL = "</script><script>alert('x')</script><!--\"&\u2028]]>"


def unpacked(text: str) -> list[int]:
    """As the page does."""
    units = np.frombuffer(text.encode("utf-16-le"), dtype="<u2")
    return (units.astype(int) - PACKED_FROM).tolist()


def spans_of(*pairs: tuple[int, int]) -> Any:
    return np.array(pairs).reshape(-1, 2)


def small_page(word: str = "cat") -> InspectPage:
    """One text of one token; every text in it is `word`."""
    table = TokenTable((word,), np.array([0]), np.array([0, 1]), spans_of((0, len(word))), np.array([0]))
    return InspectPage(
        title=word,
        subtitle=word,
        facts=Facts(((word, word),)),
        titles=[word],
        table=table,
        labels={word: Labels((word,), np.array([0]))},
        maskings=[
            Observed(word, word, 10, np.array([7]), np.array([1.0]), np.array([True])),
            Observed("rule", "about", 10, np.array([10])),
        ],
        views=[(word, 0)],
        shares=[Shares(word, word, [word], np.array([1]), np.array([[0.7]]))],
        words=Words([word], np.array([1]), np.array([[0.7]]), word),
        tables=[Table((word, word), ((word, word),), (word,), word)],
        notices=[word],
        unit=word,
    )


class Parsed(HTMLParser):
    """Text of each script, and all attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside: str | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        self.inside = tag if tag in {"script", "style"} else None
        if self.inside == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.inside is None:
            self.text += data

    def data(self, name: str) -> dict[str, Any]:
        [text] = [text for attributes, text in self.scripts if attributes.get("id") == name]
        found: dict[str, Any] = json.loads(text)
        return found


def test_numbers_are_characters():
    numbers = [0, 1, 10, 12, 44, 100, 255, 5000, LARGEST_PACKED]
    assert unpacked(packed(numbers)) == numbers
    assert packed([0, 9]) == "09"
    assert unpacked(packed([LARGEST_PACKED + 1])) == [LARGEST_PACKED]
    assert packed([]) == ""


def test_no_number_is_half_a_character():
    """A surrogate alone could not be written as UTF-8."""
    numbers = list(range(LARGEST_PACKED + 1))
    assert unpacked(packed(numbers).encode("utf-8").decode("utf-8")) == numbers


def test_probabilities_keep_their_digits():
    p = np.array([1.0, 0.5, 0.1234, 1e-3, 1e-12, 1.0 + 1e-9])
    found = np.exp(-np.array(unpacked(pack_probabilities(p))) / LOG_STEPS)
    assert found == pytest.approx(p, rel=4e-4)
    assert unpacked(pack_probabilities(np.array([0.0, 1e-300]))) == [LARGEST_PACKED] * 2


@pytest.mark.parametrize(
    ("text", "spans", "wanted"),
    [
        ("a cat", [(0, 1), (2, 5)], ["a", "cat"]),
        ("😀 cat😀s.", [(0, 1), (2, 5), (5, 6), (6, 7), (7, 8)], ["😀", "cat", "😀", "s", "."]),
        ("é cat", [(0, 1), (0, 1), (2, 5)], ["é", "", "cat"]),
        ("", [], []),
    ],
)
def test_spans_cut_the_text_as_a_browser_counts(text: str, spans: list[tuple[int, int]], wanted: list[str]):
    starts_word = np.arange(len(spans)) % 2 == 0
    numbers = unpacked(pack_spans(text, spans_of(*spans), starts_word))
    units, end, found, starts = text.encode("utf-16-le"), 0, [], []
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        start, end = end + gap, end + gap + length // 2
        found.append(units[2 * start : 2 * end].decode("utf-16-le"))
        starts.append(length % 2 == 1)
    assert found == wanted
    assert starts == starts_word.tolist()


def test_the_data_of_the_page():
    page = Parsed(render_inspect_page(small_page()))
    texts = page.data("text-data")
    policy, rule = texts["maskings"]
    assert unpacked(policy["drawn"][0]) == [7]
    assert unpacked(policy["probability"][0]) == [0]
    assert unpacked(policy["taken"][0]) == [0]
    assert policy["entropy"] == [0.0], "one token: nothing to choose"
    assert unpacked(rule["drawn"][0]) == [10]
    assert [rule[name] for name in ("probability", "taken", "entropy")] == [None] * 3
    corpus = page.data("corpus-data")
    assert corpus["draws"] == 10
    assert corpus["shares"][0]["masked"] == [[0.7]]


def test_texts_cannot_break_out():
    page = Parsed(render_inspect_page(small_page(EVIL)))
    assert len(page.scripts) == 3, "two of data and one that runs"
    texts, corpus = page.data("text-data"), page.data("corpus-data")
    assert texts["texts"] == [EVIL]
    assert texts["labels"][0]["names"] == [EVIL]
    assert corpus["words"]["words"] == [EVIL]
    assert corpus["maskings"][0] == {"name": EVIL, "about": EVIL}
    # title and h1, subtitle, a fact's name and value, heading, caption, header, row, note, notice
    assert page.text.count(EVIL) == 13


def test_the_page_forbids_itself_everything_but_its_own_style_and_script():
    html = render_inspect_page(small_page())
    page = Parsed(html)
    [rules] = [a["content"] for t, a in page.attributes if a.get("http-equiv") == "Content-Security-Policy"]
    policy = dict(part.strip().split(" ", 1) for part in (rules or "").split(";"))
    assert policy["default-src"] == "'none'"
    [style] = re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL)
    [script] = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    for source, text in (("style-src", style), ("script-src", script)):
        assert policy[source] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    for tag, attributes in page.attributes:
        assert "src" not in attributes
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
        assert (attributes.get("href") or "data:,") == "data:,"
    assert not re.findall(r"https?://", html)
    assert "@import" not in style
    assert not re.findall(r"url\((?!#)", style)


def test_write_replaces_the_page_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "page.html"
    write_inspect_page(path, small_page("first"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_inspect_page(
            path, replace(small_page("second"), words=Words(["x"], np.array([1]), np.array([[float("nan")]])))
        )
    assert "first" in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]
