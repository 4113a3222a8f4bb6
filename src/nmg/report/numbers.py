"""Formats numbers as text in the same way for sentences, tables and figures."""

import math
from collections.abc import Mapping, Sequence

from nmg.base.numerals import rounded

RAW_METRICS = frozenset({"loss", "held_out_loss"})
"""Metrics that are displayed unscaled; all other metrics are fractions and are displayed × 100."""
NOTHING = "–"
"""Text of a cell without a value."""


def shown_scale(metric: str) -> int:
    """Return the factor by which scores of this metric are multiplied for display."""
    return 1 if metric in RAW_METRICS else 100


def decimal(value: float | None, digits: int, sign: str = "", unit: str = "") -> str:
    """Format a number with a fixed number of decimals.

    Args:
        value: The number.
        digits: Number of decimals.
        sign: "+" also shows the sign of positive values; "" shows only minus signs.
        unit: Unit after the number, with its space.

    Returns:
        The text, or `NOTHING` if the number is None or NaN.
    """
    return NOTHING if value is None or math.isnan(value) else rounded(value, digits, sign) + unit


def percent(share: float) -> str:
    """Format a share between 0 and 1 as a percentage with one decimal."""
    return decimal(100 * share, 1, unit=" %")


def score_text(value: float, metric: str, sign: str = "") -> str:
    """Format a score.

    Args:
        value: The score, before scaling for display.
        metric: Metric of the score; it determines the scale (`shown_scale`) and the number of decimals.
        sign: "+" also shows the sign of positive values; "" shows only minus signs.

    Returns:
        The text, with the minus sign U+2212 and without a unit.
    """
    return rounded(value * shown_scale(metric), 3 if metric in RAW_METRICS else 1, sign)


def mean_text(mean: float, deviation: float | None, metric: str) -> str:
    """Format a mean and its standard deviation, 'mean ± deviation'.

    Args:
        mean: The mean, before scaling for display.
        deviation: The standard deviation in the unit of the mean, or None.
        metric: Metric of the scores.

    Returns:
        The text; only the mean if `deviation` is None.
    """
    return score_text(mean, metric) + ("" if deviation is None else f" ± {score_text(deviation, metric)}")


def difference_text(mean: float, low: float | None, high: float | None, metric: str) -> str:
    """Format a signed difference and its interval, '+difference [low, high]'.

    Args:
        mean: The difference, before scaling for display.
        low: Lower bound in the unit of the difference; None omits the interval.
        high: Upper bound in the unit of the difference.
        metric: Metric of the scores.

    Returns:
        The text; only the difference if `low` is None.
    """
    return score_text(mean, metric, "+") + (f" {interval_text(low, high, metric, '+')}" if low is not None else "")


def interval_text(low: float | None, high: float | None, metric: str, sign: str = "") -> str:
    """Format an interval '[low, high]'.

    Args:
        low: Lower bound, before scaling for display.
        high: Upper bound, before scaling for display.
        metric: Metric of the scores.
        sign: As in `score_text`.

    Returns:
        The text, or `NOTHING` if a bound is None.
    """
    if low is None or high is None:
        return NOTHING
    return f"[{score_text(low, metric, sign)}, {score_text(high, metric, sign)}]"


def distinct_columns(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of the columns that differ from every column before them, so that no number appears twice.

    >>> distinct_columns({"accuracy": ["42.0", "43.1"], "micro_f1": ["42.0", "43.1"], "macro_f1": ["40.2", "43.1"]})
    ['accuracy', 'macro_f1']
    """
    first_with: dict[tuple[str, ...], str] = {}
    for name, cells in columns.items():
        first_with.setdefault(tuple(cells), name)
    return list(first_with.values())


def best_rows(scores: Sequence[float], metric: str) -> tuple[tuple[int, str], ...]:
    """Return the mark of the row with the best score; none if there are fewer than two rows or all are equal."""
    if len(set(scores)) < 2:
        return ()
    best = min(scores) if metric in RAW_METRICS else max(scores)
    return tuple((row, "best") for row, score in enumerate(scores) if score == best)


def p_text(p_value: float | None) -> str:
    """Format a p value with three decimals, '< 0.001' if it is smaller, or `NOTHING` if it is None."""
    if p_value is None:
        return NOTHING
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def p_equals(p_value: float | None) -> str:
    """Format a p value for a sentence: 'p = 0.012', 'p < 0.001' or 'p undefined'."""
    if p_value is None:
        return "p undefined"
    text = p_text(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def number_text(value: float, sign: str = "") -> str:
    """Format a number: from 1000, as an integer with thousands separators; otherwise with three significant digits.

    `sign` is as in `decimal`.
    """
    return (f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.3g}").replace("-", "−")


def signed_text(reward: float) -> str:
    """Format a number with its sign and three decimals; zero has no sign."""
    return rounded(reward, 3, "+") if round(reward, 3) else "0.000"


def listed(words: Sequence[str], last: str) -> str:
    """Join words into a list in running text, such as 'a, b and c'; `last` is the conjunction before the last word."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def count_text(n: int, noun: str) -> str:
    """Return a count with its noun, e.g. '1 seed' or '3 seeds'."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def all_of(counted: str) -> str:
    """Add 'all' to the result of `count_text`: 'all 3 pairs' for '3 pairs', but 'the one pair' for '1 pair'."""
    return f"the one {counted[2:]}" if counted.startswith("1 ") else f"all {counted}"
