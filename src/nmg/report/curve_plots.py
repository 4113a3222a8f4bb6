"""Learning curves of a comparison: mean score over the number of labels or of adaptation steps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import NullLocator

from nmg.comparison.statistics import Estimate
from nmg.report.labels import label_ends, room_for, series_colours
from nmg.report.numbers import shown_scale
from nmg.report.plots import axis_name, to_svg
from nmg.report.screens import for_both_screens, new_figure

DODGE = 1.015
"""Factor on x between neighbouring curves, so that their intervals do not overlap."""


@for_both_screens
def score_curves(
    curves: Mapping[str, Sequence[tuple[float, Estimate]]],
    metric: str,
    x_name: str,
    levels: Mapping[str, float] | None = None,
    title: str = "Learning curves",
) -> str:
    """Draw one line per masking through its means, with 95 % intervals if they are defined; names are at its end.

    Args:
        curves: Masking → points (x, estimate); x > 0, on a logarithmic axis.
        metric: Metric of the scores; it determines their scale.
        x_name: Label of the x axis.
        levels: Masking → score that does not depend on x, drawn as a dashed horizontal line.
        title: Accessible name of the figure.

    Returns:
        The figure as an `<svg>` element for each kind of screen.
    """
    scale, levels = shown_scale(metric), levels or {}
    height = room_for(len(curves) + len(levels), 3.6)
    colours = series_colours([*levels, *curves])
    ends: dict[str, tuple[float, float]] = {}
    places = sorted({at for points in curves.values() for at, _ in points})
    with new_figure(height) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        for number, (name, points) in enumerate(curves.items()):
            shift = DODGE ** (number - (len(curves) - 1) / 2)
            x = np.array([at for at, _ in points]) * shift
            y = np.array([value.mean for _, value in points]) * scale
            axes.plot(x, y, "o-", color=colours[name], linewidth=1.6, markersize=4)
            for at, (_, value) in zip(x, points, strict=True):
                if value.low is not None and value.high is not None:
                    interval = [value.low * scale, value.high * scale]
                    axes.plot([at, at], interval, color=colours[name], linewidth=1, alpha=0.6)
            if points:
                ends[name] = float(x[-1]), float(y[-1])
        for name, level in levels.items():
            axes.axhline(level * scale, color=colours[name], linewidth=1.2, linestyle=(0, (3, 3)))
            ends[name] = max(places, default=1.0), level * scale
        axes.set_xticks(places, [f"{at:g}" for at in places])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=x_name, ylabel=axis_name(metric))
        label_ends(axes, ends, colours, height)
        return to_svg(figure, title)
