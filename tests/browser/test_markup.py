"""A corpus, a log and names full of markup: a browser shows them as text, runs none of it, and asks for nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nmg.report.html import write_html
from nmg.report.run_page import run_page
from support import browser as browsers
from support.command import Nmg
from support.run_logs import TEXTS, config_of, episode, log_of, search_episode, snapshot
from support.runs import Inputs

from .inspect_steps import OpenPage, search

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MARKUP = (
    "<script>window.evil=1</script>",
    "</script><script>window.evil=1</script>",
    "<img src=x onerror=window.evil=1>",
    "<svg onload=window.evil=1>",
    "\"'><body onpageshow=window.evil=1>",
    "<a href=javascript:window.evil=1>click</a>",
    "<iframe src=https://example.org></iframe>",
    "<link rel=stylesheet href=https://example.org/a.css>",
    "<style>*{display:none}</style>",
    "<base href=https://example.org/>",
    "<meta http-equiv=refresh content=0;url=https://example.org>",
    "</textarea></title></style></noscript>",
    "<!--<script>",
    "]]><![CDATA[",
    "&lt;script&gt;&#0;&amp;",
    "{{7*7}}{%x%}${7*7}",
    "$\\alpha$ __proto__ constructor",
    "\u202edlrow\u202c \u2066olleh\u2069 \u200b",
    "\u2028\u2029\ufeff\ufffd",
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "<script>window.evil=1<.txt"
    path.write_text("".join(f"t0w1 {text} t0w2\n" for text in MARKUP), encoding="utf-8")
    return path


def test_a_corpus_full_of_markup(open_page: OpenPage, nmg: Nmg, inputs: Inputs, corpus: Path, tmp_path: Path):
    """From the file through the command to the page; then whatever a reader may click."""
    words = ("--model", inputs.model, "--maskings", "random,idf", "--adapt.block_size=16", "--no-tags")
    answer = nmg("inspect", "--text", corpus, "--out", "page.html", *words)
    assert answer.code == 0, answer.err
    page = open_page(tmp_path / "page.html")
    shown = page.locator('.view[data-masking="0"] .tokens').evaluate_all("all => all.map((line) => line.textContent)")
    assert shown == [f"t0w1 {text} t0w2" for text in MARKUP]
    assert page.title() == "What is masked"
    assert page.locator("#texts script, #texts img, #texts svg, #texts iframe, #texts style, #texts link").count() == 0
    for text in MARKUP[:6]:
        page.fill("#search", text)
        page.wait_for_timeout(150)
        page.locator("article .token").first.click()
    search(page, "", f"{len(MARKUP)} texts")
    page.wait_for_timeout(150)  # what is typed is searched for a moment later, and opens the texts
    page.click("#tab-corpus")
    page.locator("button.word").first.click()
    assert page.evaluate("window.evil") is None
    assert page.url.startswith("file:")


def test_a_log_full_of_markup(open_page: OpenPage, tmp_path: Path):
    n_tokens = len(MARKUP)
    text = {
        "block": 0,
        "tokens": list(MARKUP),
        "starts_word": [True] * n_tokens,
        "is_maskable": [True] * n_tokens,
    }
    players = {name: {"accuracy": 0.5, "loss": 1.0} for name in MARKUP[:6]}
    episodes = [search_episode(i, 0.5, scores=players) for i in range(3)]
    facts = {"device": MARKUP[0], "precision": MARKUP[1], "command": list(MARKUP)}
    log = log_of(
        *episodes,
        config=config_of(12, "random-search"),
        texts=[text],
        snapshots=[snapshot(0, [0.1] * n_tokens)],
        facts=facts,
    )
    write_html(tmp_path / "report.html", run_page(log))
    page = open_page(tmp_path / "report.html")
    for summary in page.query_selector_all("summary"):
        summary.click()
    assert page.locator(".view .token").all_text_contents()[:n_tokens] == list(MARKUP)
    assert page.locator("main script, main img, main iframe, main link, main base").count() == 0
    assert {name.strip() for name in page.locator("figure svg text").all_text_contents()} >= set(MARKUP[:6])
    assert page.evaluate("window.evil") is None


def test_the_policy_of_a_page_stops_what_would_slip_through(chromium: "Browser", tmp_path: Path):
    """Should anything be escaped wrongly one day, it would still not run."""
    write_html(tmp_path / "report.html", run_page(log_of(episode(0), texts=TEXTS)))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    slipped = "<script>window.evil=1</script><img src=x onerror='window.evil=1'>"
    (tmp_path / "report.html").write_text(html.replace("<main>", f"<main>{slipped}"), encoding="utf-8")
    with browsers.open_page(chromium, tmp_path / "report.html") as opened:
        assert opened.page.evaluate("window.evil") is None
        assert any("Content Security Policy" in error for error in opened.errors)
