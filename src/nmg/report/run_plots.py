"""Figures of a meta-training run over its episodes, counted from 1: panels of curves, and stacked bars.

The size of a figure is bounded: for a long run, each point or bar is the mean over several episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from nmg.base.types import FloatArray, IntArray
from nmg.report.figure_style import INK, SERIES
from nmg.report.labels import OTHERS, label_ends, last_finite, room_for, series_colours
from nmg.report.plots import running_mean, to_svg
from nmg.report.screens import for_both_screens, is_narrow, new_figure

MAX_POINTS = 300
MAX_BARS = 60
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
    colours: Mapping[str, str] | None = None
    """Name of a curve → colour, so that a player has the same colour in all panels; None chooses them by order."""


@for_both_screens
def curves_plot(panels: Sequence[Panel], title: str, stages: Sequence[tuple[int, str]] = ()) -> str:
    """Draw panels side by side or, on a narrow screen, below each other.

    Dots show the episodes, lines the running means; the names are at the ends of the lines.

    Args:
        panels: The panels.
        title: Accessible name of the figure.
        stages: First episode and name of each stage of the run, in order; lines between the stages are drawn.

    Returns:
        The figure as an `<svg>` element for each kind of screen.
    """
    n_columns = 1 if is_narrow() else min(len(panels), 2)
    n_rows = -(-len(panels) // n_columns) if panels else 1
    height = room_for(max(len(panel.curves) for panel in panels), 2.9 if len(panels) == 1 else 2.6)
    with new_figure(height * n_rows) as figure:
        grid = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            axes.margins(y=0.15 if stages else 0.05)  # room for the names of the stages
            _draw(axes, panel, height)
            _name_stages(axes, stages)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("episode")
        return to_svg(figure, title)


@for_both_screens
def bars_plot(parts: Mapping[str, Sequence[float] | FloatArray], quantity: str, title: str) -> str:
    """Draw stacked bars, one per episode or, in a long run, one per mean over several episodes.

    Args:
        parts: Name → value per episode; NaN counts as 0.
        quantity: Label of the y axis.
        title: Accessible name of the figure.

    Returns:
        The figure as an `<svg>` element for each kind of screen. The names are next to the last bar.
    """
    height, colours = room_for(len(parts), 2.9), series_colours(list(parts))
    with new_figure(height) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False, axis="x")
        n_episodes = max(map(len, parts.values()), default=0)
        edges = _bin_edges(n_episodes, MAX_BARS)
        widths = np.diff(edges)
        middles = 1 + edges[:-1] + (widths - 1) / 2
        base, ends = np.zeros(len(widths)), {}
        for name, values in parts.items():
            heights = _bin_means(np.nan_to_num(np.asarray(values, dtype=float)), edges)
            axes.bar(middles, heights, 0.86 * widths, base, color=colours[name], linewidth=0)
            if len(widths) and np.nansum(heights) > 0:
                ends[name] = float(middles[-1] + 0.43 * widths[-1]), float(base[-1] + heights[-1] / 2)
            base = base + heights
        axes.set(xlabel="episode", ylabel=quantity)
        _finish(axes, n_episodes)
        label_ends(axes, ends, colours, height)
        return to_svg(figure, title)


def _draw(axes: Axes, panel: Panel, height: float) -> None:
    colours = panel.colours or series_colours(list(panel.curves))
    ends: dict[str, tuple[float, float]] = {}
    for name, values in panel.curves.items():
        numbers = np.asarray(values, dtype=float)
        edges = _bin_edges(len(numbers), MAX_POINTS)
        last = edges[1:] - 1
        dots = _bin_means(numbers, edges)
        # A player may take part in some episodes only; its line ends with the last of them.
        mean = np.where(np.isfinite(dots), running_mean(numbers, max(len(numbers) // 10, 5))[last], np.nan)
        has_mean = np.isfinite(mean)
        is_grey = colours[name] == OTHERS and len(panel.curves) > len(SERIES)
        axes.plot(last + 1, dots, "o", color=colours[name], alpha=0.45, markersize=3.2, markeredgewidth=0)
        axes.plot(last[has_mean] + 1, mean[has_mean], color=colours[name], linewidth=1.0 if is_grey else 1.7)
        if end := last_finite(last, mean):
            ends[name] = end[0] + 1, end[1]
    if panel.reference is not None:
        axes.axhline(panel.reference, color=INK, linewidth=0.6)
    if panel.may_be_logarithmic and _is_wide(panel.curves):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # matplotlib's default formatter writes formulas
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(panel.heading, pad=10)
    _finish(axes, max(map(len, panel.curves.values()), default=0))
    label_ends(axes, ends, colours, height)


LETTER_WIDTH, LINE_POINTS = 0.0125, 11
"""Width of a letter of a stage's name, as a fraction of the axes; and height of its line, in points."""


def _name_stages(axes: Axes, stages: Sequence[tuple[int, str]]) -> None:
    """Draw a line before the first episode of each stage but the first, and the name of each stage next to its line.

    A name that the previous one would reach is a line lower.
    """
    left, right = axes.get_xlim()
    line = 0
    for number, (first, name) in enumerate(stages):
        if number:
            axes.axvline(first - 0.5, color=INK, linewidth=0.6, linestyle=(0, (2, 2)))
            before, name_before = stages[number - 1]
            is_reached = (first - before) / (right - left) < LETTER_WIDTH * len(name_before)
            line = line + 1 if is_reached and not is_narrow() else 0
        below = -2 - LINE_POINTS * line
        axes.annotate(
            name, (first - 0.5, 1.0), (2, below), xycoords=axes.get_xaxis_transform(), textcoords="offset points",
            va="top", fontsize="small", color=INK, rotation=90 if is_narrow() else 0,
        )  # fmt: skip


def _finish(axes: Axes, n_episodes: int) -> None:
    """Set the limits of the x axis, with integer ticks."""
    axes.set_xlim(0.5, max(n_episodes, 1) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


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
