"""Learning curves of a comparison: mean score over the number of labels or of adaptation steps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import NullLocator

from nmg.comparison.statistics import Estimate
from nmg.report.numbers import shown_scale
from nmg.report.plots import SERIES, axis_name, cycled, legend_above, legend_name, new_figure, to_svg

DODGE = 1.015
"""Factor on x between neighbouring curves, so that their intervals do not overlap."""


def score_curves(
    curves: Mapping[str, Sequence[tuple[float, Estimate]]],
    metric: str,
    x_name: str,
    levels: Mapping[str, float] | None = None,
    title: str = "Learning curves",
) -> str:
    """Draw one line per masking through its means, with 95 % intervals if they are defined.

    Args:
        curves: Masking → points (x, estimate); x > 0, on a logarithmic axis.
        metric: Metric of the scores; it determines their scale.
        x_name: Label of the x axis.
        levels: Masking → score that does not depend on x, drawn as a dashed horizontal line.
        title: Accessible name of the figure.

    Returns:
        The figure as an `<svg>` element.
    """
    scale = shown_scale(metric)
    with new_figure(7.2, 3.6) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        colours = dict(zip([*(levels or {}), *curves], cycled(SERIES), strict=False))
        for number, (name, points) in enumerate(curves.items()):
            shift = DODGE ** (number - (len(curves) - 1) / 2)
            x = np.array([at for at, _ in points]) * shift
            y = np.array([value.mean for _, value in points]) * scale
            colour = colours[name]
            axes.plot(x, y, "o-", color=colour, linewidth=1.6, markersize=4, label=legend_name(name))
            for at, (_, value) in zip(x, points, strict=True):
                if value.low is not None and value.high is not None:
                    axes.plot([at, at], [value.low * scale, value.high * scale], color=colour, linewidth=1, alpha=0.6)
        for name, level in (levels or {}).items():
            axes.axhline(
                level * scale, color=colours[name], linewidth=1.2, linestyle=(0, (3, 3)), label=legend_name(name)
            )
        places = sorted({at for points in curves.values() for at, _ in points})
        axes.set_xticks(places, [f"{at:g}" for at in places])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=x_name, ylabel=axis_name(metric))
        if curves or levels:
            legend_above(axes)
        return to_svg(figure, title)
