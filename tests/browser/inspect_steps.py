"""Looking at a page of `nmg inspect`, for several files of tests."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

OpenPage = Callable[..., "Page"]


def token(page: "Page", text: int, number: int, masking: int = 0) -> "Locator":
    """All from 0."""
    return page.locator(f'article[data-text="{text}"] .view[data-masking="{masking}"] [data-token="{number}"]')


def titles(page: "Page") -> list[int]:
    """Numbers of the texts that are shown."""
    return [int(re.findall(r"Text (\d+) ", title)[0]) for title in page.locator("article h3").all_inner_texts()]


def names(page: "Page") -> list[str]:
    """Maskings of the first text."""
    return page.locator("article").first.locator("h4 .name").all_inner_texts()


def rows_of(table: "Locator") -> list[list[str]]:
    found: list[list[str]] = table.locator("tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim().replace(/\\s+/g, ' ')))"
    )
    return found


def facts_of(section: "Locator") -> dict[str, str]:
    return dict(zip(section.locator("dt").all_inner_texts(), section.locator("dd").all_inner_texts(), strict=True))


def focused(page: "Page") -> tuple[int, int, int] | None:
    """Text, masking and number of the token that has the focus."""
    found = page.evaluate(
        """() => {
            const at = document.activeElement;
            if (!at.classList.contains("token")) return null;
            const of = (name, key) => Number(at.closest(name).dataset[key]);
            return [of("article", "text"), of(".view", "masking"), Number(at.dataset.token)];
        }"""
    )
    return tuple(found) if found else None


def search(page: "Page", words: str, found: str) -> None:
    """Type, and wait for the count."""
    page.fill("#search", words)
    page.wait_for_function("(found) => document.getElementById('found').textContent === found", arg=found)


def holding(texts: Sequence[str], *words: str) -> list[int]:
    """Numbers of the texts that hold a word beginning with each of these."""
    return [
        number
        for number, text in enumerate(texts, start=1)
        if all(any(held.startswith(word) for held in text.split(" ")) for word in words)
    ]
