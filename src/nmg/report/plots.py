"""Figures as inline SVG that inherits the colours of the page.

Text and lines are drawn in placeholder colours, which are then replaced by `currentColor` and by CSS variables with
fallbacks. The background is transparent, so one figure suits light and dark pages. The module does not use pyplot,
which has global state.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nmg.base.types import FloatArray
from nmg.report.numbers import shown_scale

INK = "#010203"
SOFT = "#040506"
COLOURS = {
    INK: "currentColor",
    SOFT: "var(--line, #8884)",
    "#0a0b01": "var(--series-1, #b4541a)",
    "#0a0b02": "var(--series-2, #2f6f9f)",
    "#0a0b03": "var(--series-3, #7a7a7a)",
    "#0a0b04": "var(--series-4, #4f8a3c)",
    "#0a0b05": "var(--series-5, #8a5aa8)",
    "#0a0b06": "var(--series-6, #a88c1f)",
}
"""Placeholder colour of the drawing → colour in the SVG."""
SERIES = tuple(colour for colour in COLOURS if colour.startswith("#0a0b"))

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # keep text as text, in the page's font
    "text.parse_math": False,  # a `$` in a name does not start a formula
    "svg.hashsalt": "nmg",  # equal figures get equal ids
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": SOFT,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}


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
        The figure as an `<svg>` element.
    """
    with new_figure(7.2, 0.9 + 0.42 * max(len(scores), 1)) as figure:
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


def forest_plot(rows: Sequence[tuple[str, float, float, float]], x_name: str, title: str = "Effects") -> str:
    """Draw one line per row, the first on top: a dot at the estimate and a bar over its interval.

    Args:
        rows: (name, estimate, low, high) on the displayed scale.
        x_name: Label of the x axis.
        title: Accessible name of the figure.

    Returns:
        The figure as an `<svg>` element.
    """
    with new_figure(7.2, 0.9 + 0.3 * max(len(rows), 1)) as figure:
        axes = figure.add_subplot()
        axes.axvline(0.0, color=INK, linewidth=0.8)
        for height, (_, estimate, low, high) in enumerate(rows):
            colour = SERIES[0] if low > 0 or high < 0 else SERIES[2]
            axes.plot([low, high], [height, height], color=colour, linewidth=1.6)
            axes.plot([estimate], [height], "o", color=colour, markersize=5, markeredgewidth=0)
        _name_rows(axes, [name for name, *_ in rows], x_name)
        return to_svg(figure, title)


def difference_plot(
    rows: Sequence[tuple[str, Sequence[float], tuple[float, float] | None]], x_name: str, title: str
) -> str:
    """Draw one row per masking, the first on top: a dot per seed, the mean with its value, and the interval.

    Args:
        rows: (name, difference per seed, interval of the mean) on the displayed scale; None for no interval.
        x_name: Label of the x axis.
        title: Accessible name of the figure.

    Returns:
        The figure as an `<svg>` element.
    """
    with new_figure(7.2, 0.9 + 0.62 * max(len(rows), 1)) as figure:
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


def _name_rows(axes: Axes, names: Sequence[str], x_name: str) -> None:
    """Label the y axis with the names of the rows, the first on top, and the x axis with `x_name`."""
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=x_name, ylim=(max(len(names), 1) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), names)
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
    """Return the axis label of a metric, with its scale or, for a loss, with the better direction."""
    return f"{metric} (lower is better)" if shown_scale(metric) == 1 else f"{metric} × {shown_scale(metric)}"


def legend_name(name: str) -> str:
    """Return a legend label; matplotlib would omit a label that starts with an underscore."""
    return f"\u200b{name}" if name.startswith("_") else name


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, in up to four columns."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, handlelength=1.4)


def cycled(colours: Sequence[str]) -> Iterator[str]:
    """Yield the colours in an endless cycle."""
    while True:
        yield from colours


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure with width and height in inches, in the style of the pages."""
    with mpl.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


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
