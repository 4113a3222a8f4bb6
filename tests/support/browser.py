"""A real browser without a window, for tests of pages: Chromium, driven by Playwright.

with chromium() as browser, open_page(browser, path, PHONE, dark=True) as opened:
    opened.page.click("text=Next")
    opened.check()  # nothing on the console, nothing asked of the network
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Screen:
    width: int
    height: int
    is_touch: bool = False


DESKTOP = Screen(1280, 900)
PHONE = Screen(360, 740, is_touch=True)


@dataclass(eq=False)
class OpenedPage:
    """A page, and what it has said and asked for since it was opened."""

    page: "Page"
    url: str = ""
    errors: list[str] = field(default_factory=list)
    """messages of the console that are errors or warnings, and exceptions nobody caught"""
    requests: list[str] = field(default_factory=list)
    """addresses beyond the page's own file (what stands in the page as data: or blob: is no request)"""

    def open(self, path: Path) -> None:
        """Go to a file, and forget what another has said."""
        self.page.goto("about:blank")  # a test finds no trace of the one before
        self.url = path.resolve().as_uri()
        self.errors.clear()
        self.requests.clear()
        self.page.goto(self.url)

    def check(self) -> None:
        assert self.errors == [], "the page complains"
        assert self.requests == [], "the page asks the network"


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser; skips the test, with the reason, where there is none to start.

    Taken from `$NMG_BROWSER`, else from the PATH, else Playwright's own (`playwright install chromium`).
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright (the `dev` extra)")
    program = os.environ.get("NMG_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            # A test's container seldom lets Chromium make the sandbox of its own.
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        except sync_api.Error as error:
            if program is not None:
                raise
            pytest.skip(f"needs Chromium: apt install chromium, or playwright install chromium ({_first_line(error)})")
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: "Browser", path: Path, screen: Screen = DESKTOP, *, dark: bool = False, still: bool = True
) -> Iterator[OpenedPage]:
    """The file `path` in a window of its own; `still`: the reader prefers no motion."""
    with open_window(browser, screen, dark=dark, still=still) as opened:
        opened.open(path)
        yield opened


@contextmanager
def open_window(
    browser: "Browser", screen: Screen = DESKTOP, *, dark: bool = False, still: bool = True
) -> Iterator[OpenedPage]:
    """A window that shows nothing yet; one serves for many pages, and saves half a second each."""
    context = browser.new_context(
        viewport={"width": screen.width, "height": screen.height},
        has_touch=screen.is_touch,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce" if still else "no-preference",
    )
    try:
        page = context.new_page()
        page.set_default_timeout(30_000)  # a busy machine
        opened = OpenedPage(page)
        page.on("console", lambda message: _note_message(opened, message.type, message.text))
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        page.on("request", lambda request: _note_request(opened, request.url))
        yield opened
    finally:
        context.close()


def _note_message(opened: OpenedPage, kind: str, text: str) -> None:
    if kind in {"error", "warning"}:
        opened.errors.append(text)


def _note_request(opened: OpenedPage, url: str) -> None:
    if url.partition("#")[0] != opened.url and not url.startswith(("data:", "blob:", "about:")):
        opened.requests.append(url)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
