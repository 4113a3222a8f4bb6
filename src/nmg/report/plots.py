"""Figures as inline SVG that inherits the colours of the page.

Text and lines are drawn in placeholder colours, which are then replaced by `currentColor` and by CSS variables with
fallbacks. The background is transparent, so one figure suits light and dark pages. The module does not use pyplot,
which has global state.
"""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from textwrap import wrap
from xml.sax.saxutils import quoteattr

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nmg.base.types import FloatArray
from nmg.report.figure_style import COLOURS, INK, SERIES
from nmg.report.numbers import RAW_METRICS, shown_scale
from nmg.report.screens import for_both_screens, is_narrow, new_figure

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@for_both_screens
def results_plot(
    scores: Mapping[str, Sequence[float]],
    metric: str,
    baseline: str = "random",
    title: str = "Scores by masking",
) -> str:
    """Draw one row per masking: a dot per seed, a bar at the mean, and the baseline's mean as a dashed line.

    Args:
        scores: Masking → score per seed.
        metric: Metric of the scores; it determines their scale.
        baseline: Name of the baseline; no line is drawn if `scores` lacks it.
        title: Accessible name of the figure.

    Returns:
        The figure as an `<svg>` element for each kind of screen.
    """
    with new_figure(_rows_height(list(scores), 0.42)) as figure:
        axes = figure.add_subplot()
        names = list(scores)
        for height, name in enumerate(names):
            values = _shown(scores[name], metric)
            shifts = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(len(values))
            axes.plot(values, height + shifts, "o", color=SERIES[1], alpha=0.6, markersize=5, markeredgewidth=0)
            if len(values):
                axes.plot([values.mean()] * 2, [height - 0.28, height + 0.28], color=SERIES[0], linewidth=2.5)
        if baseline in scores and len(scores[baseline]):
            axes.axvline(
                _shown(scores[baseline], metric).mean(), color=INK, linewidth=0.8, linestyle=(0, (3, 3)), zorder=0.5
            )
        _name_rows(axes, names, axis_name(metric))
        return to_svg(figure, title)


@for_both_screens
def forest_plot(rows: Sequence[tuple[str, float, float, float]], x_name: str, title: str = "Effects") -> str:
    """Draw one line per row, the first on top: a dot at the estimate and a bar over its interval.

    Args:
        rows: (name, estimate, low, high) on the displayed scale.
        x_name: Label of the x axis.
        title: Accessible name of the figure.

    Returns:
        The figure as an `<svg>` element for each kind of screen.
    """
    with new_figure(_rows_height([name for name, *_ in rows], 0.3)) as figure:
        axes = figure.add_subplot()
        axes.axvline(0.0, color=INK, linewidth=0.8)
        for height, (_, estimate, low, high) in enumerate(rows):
            colour = SERIES[0] if low > 0 or high < 0 else SERIES[2]
            axes.plot([low, high], [height, height], color=colour, linewidth=1.6)
            axes.plot([estimate], [height], "o", color=colour, markersize=5, markeredgewidth=0)
        _name_rows(axes, [name for name, *_ in rows], x_name)
        return to_svg(figure, title)


@for_both_screens
def difference_plot(
    rows: Sequence[tuple[str, Sequence[float], tuple[float, float] | None]], x_name: str, title: str
) -> str:
    """Draw one row per masking, the first on top: a dot per seed, the mean with its value, and the interval.

    Args:
        rows: (name, difference per seed, interval of the mean) on the displayed scale; None for no interval.
        x_name: Label of the x axis.
        title: Accessible name of the figure.

    Returns:
        The figure as an `<svg>` element for each kind of screen.
    """
    with new_figure(_rows_height([name for name, *_ in rows], 0.62)) as figure:
        axes = figure.add_subplot()
        axes.axvline(0.0, color=INK, linewidth=0.8)
        for height, (_, differences, interval) in enumerate(rows):
            mean = float(np.mean(differences))
            colour = SERIES[0] if interval and (interval[0] > 0 or interval[1] < 0) else SERIES[2]
            axes.plot(differences, [height + 0.2] * len(differences), "o", color=colour, alpha=0.5, markersize=4)
            if interval:
                axes.plot(interval, [height, height], color=colour, linewidth=2)
            axes.plot([mean], [height], "D", color=colour, markersize=6, markeredgewidth=0)
            text = f"{mean:+.1f}".replace("-", "−")
            axes.annotate(text, (mean, height), (0, 7), textcoords="offset points", ha="center", color=INK)
        _name_rows(axes, [name for name, *_ in rows], x_name)
        return to_svg(figure, title)


LETTERS = {True: 44, False: 38}
"""Whether the screen is narrow → maximum number of letters per line of a row's name."""
LINE = 0.17
"""Height of a line of text, in inches."""


def _rows_height(names: Sequence[str], row: float) -> float:
    """Return the height of a figure with rows of `row` inches; on a narrow screen, names take further room."""
    n_lines = max([1, *(len(wrap(name, LETTERS[is_narrow()])) for name in names)])
    row = row + (n_lines * LINE + 0.05 if is_narrow() else (n_lines - 1) * LINE)
    return 0.9 + row * max(len(names), 1)


def _name_rows(axes: Axes, names: Sequence[str], x_name: str) -> None:
    """Write the names of the rows, the first on top: on the left or, on a narrow screen, above each row.

    `x_name` is the label of the x axis. Long names and labels are broken into lines.
    """
    shown = ["\n".join(wrap(name, LETTERS[is_narrow()])) for name in names]
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="\n".join(wrap(x_name, 50 if is_narrow() else 60)))
    axes.set_ylim(max(len(names), 1) - 0.5, -0.75 if is_narrow() else -0.5)
    axes.set_yticks(range(len(names)), [""] * len(names) if is_narrow() else shown)
    if is_narrow():
        for height, name in enumerate(shown):
            text = axes.text(0.0, height - 0.3, name, transform=axes.get_yaxis_transform(), va="bottom")
            text.set(fontweight="bold", in_layout=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def running_mean(values: Sequence[float] | FloatArray, window: int) -> FloatArray:
    """Return the running means of values [n], as float [n]: of each value and up to `window` − 1 previous values.

    Non-finite values are ignored; a mean is NaN if its window has no finite value.
    """
    numbers = np.asarray(values, dtype=float)
    is_number = np.isfinite(numbers)
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_number, numbers, 0.0))])
    counts = np.concatenate([[0], np.cumsum(is_number)])
    ends = np.arange(1, len(numbers) + 1)
    starts = np.maximum(ends - window, 0)
    n = counts[ends] - counts[starts]
    return np.where(n > 0, (sums[ends] - sums[starts]) / np.maximum(n, 1), np.nan)


def _shown(scores: Sequence[float], metric: str) -> FloatArray:
    return np.asarray(scores, dtype=float) * shown_scale(metric)


def axis_name(metric: str) -> str:
    """Return the axis label of a metric, with its scale and the better direction."""
    return f"{scaled_name(metric)} ({'lower' if metric in RAW_METRICS else 'higher'} is better)"


def scaled_name(metric: str) -> str:
    """Return the name of a metric with its scale."""
    return metric if shown_scale(metric) == 1 else f"{metric} × {shown_scale(metric)}"


def to_svg(figure: Figure, title: str) -> str:
    """Return the figure as an `<svg>` element with `title` as its accessible name.

    The element has no XML declaration and no fixed size, only its aspect ratio. Its ids are unique, and its colours
    come from the page.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    view_box = text[text.index("viewBox=") :].split('"')[1]
    tag = f'<svg {NAMESPACES} viewBox="{view_box}" stroke-linejoin="round" role="img" aria-label={quoteattr(title)}>'
    text = tag + text[text.index(">") + 1 :]
    prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    return re.sub(r"<[^>]*>", lambda tag: _for_page(tag.group(), prefix), text).strip()


def _for_page(tag: str, prefix: str) -> str:
    """Prefix ids and replace colours inside one SVG tag; text between tags is left unchanged."""
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", tag)
    for drawn, shown in COLOURS.items():
        tag = tag.replace(drawn, shown)
    return tag
