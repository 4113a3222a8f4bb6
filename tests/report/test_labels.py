"""Direct labels: which colour a name has, and where it goes if names would overlap."""

import itertools

import numpy as np
import pytest

from nmg.report.figure_style import SERIES
from nmg.report.labels import OTHERS, last_finite, series_colours, spread


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ([], []),
        ([0.5], [0.5]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.5, 0.5], [0.4, 0.6]),
        ([0.6, 0.5], [0.65, 0.45]),
        ([0.5, 0.5, 0.5], [0.3, 0.5, 0.7]),
        ([0.0, 0.1, 0.25], [-0.0833, 0.1167, 0.3167]),  # the last two meet only after the first two have moved apart
    ],
)
def test_spread_by_hand(places: list[float], moved: list[float]):
    assert spread(places, 0.2) == pytest.approx(moved, abs=1e-4)


def test_spread_moves_as_little_as_possible():
    """Against all points of a fine grid that keep order and gap."""
    places, gap, grid = [0.1, 0.15, 0.2], 0.1, np.arange(-0.1, 0.5, 0.01)
    allowed = (one for one in itertools.product(grid, repeat=3) if min(np.diff(one)) >= gap - 1e-9)
    best = min(allowed, key=lambda one: float(np.square(np.subtract(one, places)).sum()))
    assert spread(places, gap) == pytest.approx(best, abs=0.006)


def test_six_names_have_six_colours():
    assert list(series_colours(list("abcdef")).values()) == list(SERIES)


def test_of_more_names_the_important_ones_have_a_colour():
    colours = series_colours(list("abcdefghijk"), important=("k", "absent", "d"))
    assert "absent" not in colours
    assert [name for name, colour in colours.items() if colour != OTHERS] == ["k", "d", "a", "b", "c"]
    assert len(set(colours.values())) == 6


def test_the_last_point_with_a_number():
    assert last_finite(np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, np.nan])) == (2.0, 6.0)
    assert last_finite(np.array([1.0]), np.array([np.nan])) is None
