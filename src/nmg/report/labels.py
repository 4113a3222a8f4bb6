"""Direct labels of curves and bars: each name is written next to what it names, in the same colour."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from nmg.base.types import FloatArray, IntArray
from nmg.report.figure_style import SERIES

OTHERS = SERIES[2]
"""Colour of all curves that have no colour to themselves: grey."""
LINE = 0.17
"""Height of a label, in inches."""
MARGIN = 0.8
"""Height of a figure around its axes, in inches, estimated."""


def series_colours(names: Sequence[str], important: Sequence[str] = ()) -> dict[str, str]:
    """Return the colour of each name; no two names share one, except the grey of the names that are left over.

    Args:
        names: Names of the curves.
        important: Names that get a colour first; those that are not among `names` are ignored.

    Returns:
        Name → colour. Up to six names have six colours; of more names, five have a colour and the others are grey.
    """
    ordered = [*(name for name in important if name in names), *(name for name in names if name not in important)]
    if len(ordered) <= len(SERIES):
        return dict(zip(ordered, SERIES, strict=False))
    coloured = dict(zip(ordered, (colour for colour in SERIES if colour != OTHERS), strict=False))
    return {name: coloured.get(name, OTHERS) for name in ordered}


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], colours: Mapping[str, str], height: float) -> None:
    """Write names to the right of the axes, each at the height of its curve's end; names that would overlap move apart.

    Call it after everything is drawn, because it fixes the limits of the y axis.

    Args:
        axes: The axes.
        ends: Name → (x, y) of the last point of its curve, finite, in data units.
        colours: Name → colour of its curve.
        height: Height of the figure's row, in inches.
    """
    axes.set_ylim(axes.get_ylim())
    to_axes = axes.transData + axes.transAxes.inverted()
    shares = [float(to_axes.transform(end)[1]) for end in ends.values()]
    for (name, end), share in zip(ends.items(), spread(shares, LINE / max(height - MARGIN, LINE)), strict=True):
        axes.annotate(
            name,
            xy=end,
            xytext=(1.03, share),
            textcoords="axes fraction",
            va="center",
            color=colours[name],
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colours[name], "linewidth": 0.5, "alpha": 0.5, "shrinkB": 3},
        )


def spread(places: Sequence[float], gap: float) -> FloatArray:
    """Move numbers apart until neighbours differ by at least `gap`, and otherwise as little as possible.

    Args:
        places: The numbers, in any order.
        gap: Minimum difference, at least 0.

    Returns:
        float [n]: the moved numbers in the given order. Their squared distances to `places` have the least possible sum
        among all that keep the order.

    >>> spread([0.0, 0.1, 0.9], 0.2).round(2).tolist()
    [-0.05, 0.15, 0.9]
    """
    order = np.argsort(places, kind="stable")
    # Without the gaps, the task is a monotone regression: pool neighbours that violate the order into their mean.
    wanted = np.asarray(places, dtype=float)[order] - gap * np.arange(len(order))
    pools: list[tuple[float, int]] = []
    for place in wanted.tolist():
        pools.append((place, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (first, n_first), (last, n_last) = pools[-2:]
            pools[-2:] = [((first * n_first + last * n_last) / (n_first + n_last), n_first + n_last)]
    moved = np.concatenate([np.full(n, mean) for mean, n in pools] or [np.zeros(0)]) + gap * np.arange(len(order))
    found: FloatArray = np.empty(len(order))
    found[order] = moved
    return found


def room_for(n_labels: int, least: float) -> float:
    """Return the height of a figure's row in inches, at least `least`, in which the labels do not overlap."""
    return max(least, MARGIN + LINE * n_labels)


def last_finite(x: FloatArray | IntArray, y: FloatArray) -> tuple[float, float] | None:
    """Return the last point of a curve with a finite y, or None."""
    finite = np.flatnonzero(np.isfinite(y))
    return (float(x[finite[-1]]), float(y[finite[-1]])) if len(finite) else None
