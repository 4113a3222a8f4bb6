"""Pages in a real browser. What a page complains of, or asks of the network, fails the test that opened it."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from nmg.inspection.render import InspectPage, write_inspect_page
from support import browser as browsers
from support.browser import DESKTOP, OpenedPage, Screen

from .inspected import N_TEXTS, colour_texts, page_of, texts_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

OpenPage: TypeAlias = Callable[..., "Page"]
"""open_page(path, screen=DESKTOP, dark=False) → playwright's page, already loaded"""


# Of a module and not of the session: while Playwright is at work, no other test may run an event loop.
@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def _window(chromium: "Browser") -> "Iterator[Callable[[Screen, bool], OpenedPage]]":
    """One window for each screen and colour scheme, opened when first asked for."""
    with ExitStack() as stack:

        @functools.cache
        def window(screen: Screen, dark: bool) -> OpenedPage:
            return stack.enter_context(browsers.open_window(chromium, screen, dark=dark))

        yield window


@pytest.fixture
def open_page(_window: Callable[[Screen, bool], OpenedPage]) -> Iterator[OpenPage]:
    """Opens pages, and checks at the end of the test that none has complained or asked the network for anything.

    A second page on the same screen and in the same colours takes the place of the first.
    """
    opened: list[OpenedPage] = []

    def open_one(path: Path, screen: Screen = DESKTOP, *, dark: bool = False) -> "Page":
        window = _window(screen, dark)
        if window in opened:
            window.check()
        else:
            opened.append(window)
        window.open(path)
        return window.page

    yield open_one
    for window in opened:
        window.check()


@pytest.fixture(scope="session")
def made() -> InspectPage:
    """A page of `nmg inspect`: 45 texts of 8 words, so three pages of at most 20."""
    return page_of(texts_of(colour_texts(N_TEXTS)))


@pytest.fixture(scope="session")
def path(made: InspectPage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `made`."""
    written = tmp_path_factory.mktemp("page") / "page.html"
    write_inspect_page(written, made)
    return written
