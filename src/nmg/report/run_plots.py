"""Figures of a meta-training run over its episodes, counted from 1: panels of curves, and stacked bars.

The size of a figure is bounded: for a long run, each point or bar is the mean over several episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from nmg.base.types import FloatArray, IntArray
from nmg.report.plots import INK, SERIES, cycled, legend_name, new_figure, running_mean, to_svg

MAX_POINTS = 300
MAX_BARS = 60
WIDTH = 7.2
"""Width of a figure, in inches."""
LETTERS_AN_INCH = 13
"""Estimated number of letters that fit into one inch of a legend."""
WIDE_RANGE = 30
"""A panel may have a logarithmic axis if the ratio of its largest to its smallest value exceeds this number."""


@dataclass(frozen=True)
class Panel:
    """Curves under one heading, each with one value per episode; NaN if an episode has no value."""

    heading: str
    curves: Mapping[str, Sequence[float] | FloatArray]
    reference: float | None = None
    """Height of a horizontal line, or None."""
    may_be_logarithmic: bool = False
    first_colour: int = 0
    """Index into `plots.SERIES` of the first curve's colour, so that a player has the same colour in all panels."""


def curves_plot(panels: Sequence[Panel], title: str) -> str:
    """Draw panels in two columns, or a single panel over the whole width, and return the figure as an `<svg>` element.

    Dots show the episodes, lines the running means. `title` is the accessible name of the figure.
    """
    n_columns, n_rows = min(len(panels), 2), -(-len(panels) // 2)
    with new_figure(WIDTH, (2.9 if len(panels) == 1 else 2.6) * n_rows) as figure:
        grid = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw(axes, panel, WIDTH / n_columns)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("episode")
        return to_svg(figure, title)


def bars_plot(parts: Mapping[str, Sequence[float] | FloatArray], quantity: str, title: str) -> str:
    """Draw stacked bars, one per episode or, in a long run, one per mean over several episodes.

    Args:
        parts: Name → value per episode; NaN counts as 0.
        quantity: Label of the y axis.
        title: Accessible name of the figure.

    Returns:
        The figure as an `<svg>` element.
    """
    with new_figure(WIDTH, 2.9) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False, axis="x")
        n_episodes = max(map(len, parts.values()), default=0)
        edges = _bin_edges(n_episodes, MAX_BARS)
        widths = np.diff(edges)
        base = np.zeros(len(widths))
        for colour, (name, values) in zip(SERIES, parts.items(), strict=False):
            heights = _bin_means(np.nan_to_num(np.asarray(values, dtype=float)), edges)
            middles = 1 + edges[:-1] + (widths - 1) / 2
            axes.bar(middles, heights, 0.86 * widths, base, color=colour, linewidth=0, label=legend_name(name))
            base = base + heights
        axes.set(xlabel="episode", ylabel=quantity)
        _finish(axes, n_episodes, len(parts))
        return to_svg(figure, title)


def _draw(axes: Axes, panel: Panel, width: float) -> None:
    for colour, (name, values) in zip(cycled(SERIES[panel.first_colour :]), panel.curves.items(), strict=False):
        numbers = np.asarray(values, dtype=float)
        edges = _bin_edges(len(numbers), MAX_POINTS)
        last = edges[1:] - 1
        dots = _bin_means(numbers, edges)
        axes.plot(last + 1, dots, "o", color=colour, alpha=0.45, markersize=3.2, markeredgewidth=0)
        mean = running_mean(numbers, max(len(numbers) // 10, 5))
        axes.plot(last + 1, mean[last], color=colour, linewidth=1.7, label=legend_name(name))
    if panel.reference is not None:
        axes.axhline(panel.reference, color=INK, linewidth=0.6)
    if panel.may_be_logarithmic and _is_wide(panel.curves):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # matplotlib's default formatter writes formulas
        axes.yaxis.set_minor_formatter(NullFormatter())
    names_a_row = _names_a_row(list(panel.curves), width)
    n_rows = max(-(-len(panel.curves) // names_a_row), 1)
    axes.set_title(panel.heading, pad=8 + 14 * n_rows)
    _finish(axes, max(map(len, panel.curves.values()), default=0), names_a_row)


def _names_a_row(names: Sequence[str], width: float) -> int:
    """Return how many legend names fit into a row of `width` inches: at least 1, and at most `len(names)`."""
    letters = [len(name) + 5 for name in names]  # each with its line and some space
    room = width * LETTERS_AN_INCH
    return max(len(names) if sum(letters) <= room else int(room // max(letters)), 1)


def _finish(axes: Axes, n_episodes: int, names_a_row: int) -> None:
    """Set integer ticks on the x axis and put the legend above the axes."""
    axes.set_xlim(0.5, max(n_episodes, 1) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=names_a_row,
            borderaxespad=0.1,
            handlelength=1.2,
            columnspacing=1.2,
        )


def _is_wide(curves: Mapping[str, Sequence[float] | FloatArray]) -> bool:
    values = np.concatenate([np.asarray(curve, dtype=float) for curve in curves.values()])
    values = values[np.isfinite(values)]
    return len(values) > 0 and bool(values.min() > 0) and bool(values.max() > WIDE_RANGE * values.min())


def _bin_edges(n: int, most: int) -> IntArray:
    """Return the edges 0, w, 2 w, …, n of at most `most` bins, as int64 [bins + 1]; only the last may be narrower."""
    width = max(-(-n // most), 1)
    return np.append(np.arange(0, n, width), n)


def _bin_means(values: FloatArray, edges: IntArray) -> FloatArray:
    """Return the mean of the finite values of each bin, as float [bins]; NaN for a bin without finite values."""
    is_number = np.isfinite(values)
    sums, counts = (
        np.diff(np.append(0.0, np.cumsum(part))[edges]) for part in (np.where(is_number, values, 0.0), is_number)
    )
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)
