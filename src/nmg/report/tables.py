"""Tables as text: built once, shown on a terminal, in Markdown, in LaTeX and on pages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import rich.table
from rich.markup import escape

from nmg.errors import printable
from nmg.numerals import rounded

RAW_METRICS = frozenset({"loss", "held_out_loss"})
"""metrics shown as they are; every other one is a fraction, shown × 100"""
NOTHING = "–"
"""what a cell without a value shows"""


@dataclass(frozen=True)
class Table:
    """Text cells, ready to print; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def shown_scale(metric: str) -> int:
    """What a score is multiplied by wherever people read it."""
    return 1 if metric in RAW_METRICS else 100


def as_markdown(table: Table) -> str:
    """Any table as GitHub's Markdown, its notes after it."""
    lines = [_markdown_row(table.header), _markdown_row(["---"] + ["---:"] * (len(table.header) - 1))]
    lines += [_markdown_row(row) for row in table.rows]
    return "\n".join([*lines, "", *table.notes]) + "\n"


def titled_markdown(reading: str, tables: Iterable[tuple[str, Table]]) -> str:
    """A file: what the tables say, then each under its title."""
    parts = [f"## {title}\n\n{as_markdown(table)}" for title, table in tables]
    return "\n".join([f"{reading}\n", *parts])


def as_rich(table: Table, title: str, n_words: int = 1) -> rich.table.Table:
    """Any table for a terminal. Its first `n_words` columns are of words, the others of numbers."""
    printed = rich.table.Table(title=title, caption=" ".join(table.notes), caption_justify="left", title_justify="left")
    for number, name in enumerate(table.header):
        printed.add_column(name, justify="left" if number < n_words else "right")
    for row in table.rows:
        printed.add_row(*(escape(printable(cell)) for cell in row))  # brackets in a name are no markup
    return printed


def score_text(value: float, metric: str, sign: str = "") -> str:
    return rounded(value * shown_scale(metric), 3 if metric in RAW_METRICS else 1, sign)


def mean_text(mean: float, deviation: float | None, metric: str) -> str:
    return score_text(mean, metric) + ("" if deviation is None else f" ± {score_text(deviation, metric)}")


def difference_text(mean: float, low: float | None, high: float | None, metric: str) -> str:
    """A signed difference with its interval, where it has one."""
    return score_text(mean, metric, "+") + (f" {interval_text(low, high, metric, '+')}" if low is not None else "")


def interval_text(low: float | None, high: float | None, metric: str, sign: str = "") -> str:
    if low is None or high is None:
        return NOTHING
    return f"[{score_text(low, metric, sign)}, {score_text(high, metric, sign)}]"


def p_text(p_value: float | None) -> str:
    if p_value is None:
        return NOTHING
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def p_equals(p_value: float | None) -> str:
    """`p_text` in a sentence."""
    if p_value is None:
        return "p undefined"
    text = p_text(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")


def signed_text(reward: float) -> str:
    return f"{reward:+.3f}".replace("-", "−") if round(reward, 3) else "0.000"


def listed(words: Sequence[str], last: str) -> str:
    """'a, b and c'; `last` joins the last two."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def count_text(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def all_of(counted: str) -> str:
    """'3 pairs' → 'all 3 pairs', '1 pair' → 'the one pair'."""
    return f"the one {counted[2:]}" if counted.startswith("1 ") else f"all {counted}"


def duration_text(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
