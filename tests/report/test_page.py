"""The page: everything escaped, nothing loaded, every part optional, never half-written."""

import re
from html.parser import HTMLParser

import pytest

from nmg.report.document import (
    Details,
    Document,
    Facts,
    Figure,
    Paragraph,
    Section,
    ShadedRow,
    ShadedText,
    ShadedTexts,
    ShadedToken,
    Table,
)
from nmg.report.html import render_html, write_html
from nmg.report.plots import results_plot

EVIL = "<script>alert('x')</script>\"&"
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Outline(HTMLParser):
    """Opened tags with their attributes; checks that every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def having(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def text_of(*tokens: ShadedToken) -> ShadedTexts:
    return ShadedTexts((ShadedText("Text 1", (ShadedRow("learned", tokens),)),))


def full_page(word: str = "word") -> str:
    blocks = [
        Paragraph(word),
        Facts(((word, word),)),
        Details(word, word),
        Table((word, word), ((word, word),), (word,)),
        Figure(results_plot({"learner": [0.1, 0.2]}, "accuracy"), word),
        ShadedTexts((ShadedText(word, (ShadedRow(word, (ShadedToken(word, 0.5),)),)),)),
    ]
    sections = [Section(word, blocks), Section("second"), Section("third")]
    return render_html(Document(word, word, sections))


def test_everything_is_escaped():
    page = Outline(full_page(EVIL))
    assert not page.having("script")
    assert page.text.count(EVIL) == 19  # every place a caller fills
    assert any(attributes.get("aria-label") == EVIL for _, attributes in page.tags)


def test_nothing_is_loaded():
    html = full_page()
    assert set(re.findall(r"https?://[^\"\s]*", html)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    page = Outline(html)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert all((attributes.get(name) or "#").startswith("#") for name in ("href", "xlink:href"))
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)


def test_page_is_accessible_and_adapts():
    html = full_page()
    page = Outline(html)
    assert page.having("html")[0]["lang"] == "en"
    assert "width=device-width" in html
    assert "prefers-color-scheme: dark" in html
    links = {attributes["href"] for attributes in page.having("a")}
    headings = {f"#{attributes['id']}" for attributes in page.having("h2")}
    assert links == headings
    assert all(attributes.get("scope") in {"row", "col"} for attributes in page.having("th"))
    assert len(page.having("h1")) == 1


@pytest.mark.parametrize(
    "sections",
    [
        [],
        [Section("empty")],
        [Section("empty blocks", [Paragraph(""), Facts(()), Table((), ()), ShadedTexts(()), Figure("")])],
        [Section("empty texts", [ShadedTexts((ShadedText("", ()), ShadedText("", (ShadedRow("", ()),))))])],
    ],
)
def test_parts_may_be_empty(sections):
    assert Outline(render_html(Document("Title", sections=sections))).having("h1")


def test_paragraph_markup():
    html = render_html(Document("t", sections=[Section("s", [Paragraph("one `a<b>` and\n**two**\n\nthree")])]))
    assert "<p>one <code>a&lt;b&gt;</code> and <strong>two</strong></p>\n<p>three</p>" in html


def test_shades_are_shares_of_the_highest_in_the_text():
    rows = (
        ShadedRow("random", (ShadedToken("cut", 0.1), ShadedToken("rates", 0.1))),
        ShadedRow("learned", (ShadedToken("cut", 0.4, is_masked=True), ShadedToken("rates", 0.02))),
    )
    html = render_html(Document("t", sections=[Section("s", [ShadedTexts((ShadedText("Text", rows),))])]))
    spans = [attributes for attributes in Outline(html).having("span") if "title" in attributes]
    assert [attributes["style"] for attributes in spans] == ["--p:0.250", "--p:0.250", "--p:1.000", "--p:0.050"]
    assert [attributes["title"] for attributes in spans] == ["0.1", "0.1", "0.4, masked", "0.02"]
    assert ["masked" in attributes["class"] for attributes in spans] == [False, False, True, False]
    assert "taken" in html


def test_word_pieces_join_and_special_tokens_have_no_probability():
    tokens = [ShadedToken("[CLS]", 0.0, is_special=True), ShadedToken("mini", 0.0), ShadedToken("lm", 0.0, False)]
    page = Outline(render_html(Document("t", sections=[Section("s", [text_of(*tokens)])])))
    assert "[CLS] minilm" in page.text
    special = next(attributes for attributes in page.having("span") if "special" in (attributes.get("class") or ""))
    assert "title" not in special
    assert "taken" not in page.text


def test_write_replaces_the_page_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run.html"
    write_html(path, Document("first"))
    broken = Document("second", sections=[Section("s", [text_of(ShadedToken("x", "no number"))])])
    with pytest.raises(TypeError):
        write_html(path, broken)
    assert "first" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.html"]
    write_html(path, Document("third – ü"))
    assert "third – ü" in path.read_text(encoding="utf-8")
