"""The harness itself: it sees what a page complains of and asks for, and shows pages on the screens it names."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.browser import DESKTOP, PHONE, Screen, open_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HEAD = "<!doctype html><meta charset='utf-8'><link rel='icon' href='data:,'>"


def write(folder: Path, body: str) -> Path:
    path = folder / "a page.html"
    path.write_text(HEAD + body, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>console.error('on the console')</script>", "on the console"),
        ("<script>throw new Error('nobody caught it')</script>", "nobody caught it"),
        ("<img src='http://127.0.0.1:9/x.png'>", "127.0.0.1:9/x.png"),
        ("<script>fetch('other.json').catch(() => 0)</script>", "other.json"),
    ],
)
def test_complaints_and_requests_are_seen(chromium: "Browser", tmp_path: Path, body: str, complaint: str):
    with open_page(chromium, write(tmp_path, body)) as opened:
        opened.page.wait_for_timeout(100)
        assert any(complaint in line for line in opened.errors + opened.requests)
        with pytest.raises(AssertionError):
            opened.check()


@pytest.mark.parametrize("screen", [DESKTOP, PHONE])
@pytest.mark.parametrize("dark", [False, True])
def test_screens_and_colours(chromium: "Browser", tmp_path: Path, screen: Screen, dark: bool):
    with open_page(chromium, write(tmp_path, "<p>quiet"), screen, dark=dark) as opened:
        assert opened.page.evaluate("innerWidth") == screen.width
        assert opened.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == dark
        opened.check()
