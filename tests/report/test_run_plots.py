"""Figures over episodes: every episode once, sizes that do not grow, valid SVG also where there is nothing to draw."""

import re
from collections import Counter
from itertools import pairwise
from math import nan

import numpy as np
import pytest
from matplotlib.figure import Figure

from nmg.report import run_plots
from nmg.report.run_plots import Panel, _name_stages, bars_plot, curves_plot

from .helpers import svgs

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(("n", "most"), [(0, 5), (1, 5), (5, 5), (6, 5), (23, 5), (1000, 60)])
def test_bins_cover_every_episode_once(n: int, most: int):
    edges = run_plots._bin_edges(n, most)
    assert len(edges) - 1 <= most
    assert (edges[0], edges[-1]) == (0, n)
    assert (np.diff(edges) > 0).all()
    assert len(set(np.diff(edges)[:-1].tolist())) <= 1
    values = np.where(np.arange(n) % 7 == 3, nan, np.sqrt(np.arange(n)))
    slow = [np.nanmean(values[a:b]) if np.isfinite(values[a:b]).any() else nan for a, b in pairwise(edges)]
    np.testing.assert_allclose(run_plots._bin_means(values, edges), slow)


def test_nothing_to_draw():
    for svg in (
        curves_plot([Panel("a", {})], "t"),
        curves_plot([Panel("a", {"x": []}), Panel("b", {"x": [nan], "y": [nan]}, may_be_logarithmic=True)], "t"),
        bars_plot({}, "s", "t"),
        bars_plot({"x": []}, "s", "t"),
        bars_plot({"x": [nan, 1.0]}, "s", "t"),
    ):
        assert [root.get("aria-label") for root in svgs(svg)] == ["t", "t"]


def test_a_wide_range_has_a_logarithmic_axis():
    wide, narrow = [1.0, 5.0, 4000.0], [1.0, 5.0, 29.0]
    assert run_plots._is_wide({"a": [1.0, nan], "b": wide})
    assert not run_plots._is_wide({"a": narrow})
    assert not run_plots._is_wide({"a": [0.0, *wide]}), "0 has no logarithm"
    drawn = {flag: curves_plot([Panel("a", {"a": wide}, may_be_logarithmic=flag)], "t") for flag in (True, False)}
    assert drawn[True] != drawn[False]


def test_bars_stand_on_each_other():
    """Top and bottom of each bar, read from the SVG."""
    bars = {}
    svg = bars_plot({"low": [1.0], "middle": [3.0], "high": [2.0]}, "s", "t")
    for path in svgs(svg)[0].iter(f"{SVG}path"):
        if path.get("clip-path") and "series" in path.get("style", ""):
            ys = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", path.get("d", ""))]
            bars[re.findall(r"series-\d", path.get("style", ""))[0]] = (max(ys), min(ys))
    (floor, first), (above_first, second), (above_second, top) = (bars[f"series-{number}"] for number in (1, 2, 3))
    assert (first, second) == (above_first, above_second)
    heights = [floor - first, first - second, second - top]
    np.testing.assert_allclose(np.divide(heights, floor - top), [1 / 6, 3 / 6, 2 / 6], rtol=1e-3)


def test_every_curve_has_its_name_and_none_shares_a_colour():
    """With more curves than colours, the important ones have a colour to themselves and the others are grey."""
    names = [f"curve {n}" for n in range(11)]
    svg = curves_plot([Panel("p", {name: [float(n), n + 1.0] for n, name in enumerate(names)})], "t")
    for root in svgs(svg):
        texts = [text for text in root.iter(f"{SVG}text") if (text.text or "").startswith("curve ")]
        assert sorted(text.text or "" for text in texts) == sorted(names)
        colours = [re.findall(r"series-\d", text.get("style", ""))[0] for text in texts]
        assert sorted(Counter(colours).values()) == [1, 1, 1, 1, 1, 6]


def test_names_do_not_overlap():
    """The baselines of the labels of equal curves, read from the SVG."""
    for root in svgs(curves_plot([Panel("p", {f"curve {n}": [1.0, 1.0] for n in range(12)})], "t")):
        labels = [text for text in root.iter(f"{SVG}text") if (text.text or "").startswith("curve ")]
        ys = sorted(float(text.get("y", "nan")) for text in labels)
        assert min(np.diff(ys)) > 8, "points, for letters of 10 points"


def test_a_line_ends_with_the_last_episode_of_its_player():
    svg = curves_plot(
        [Panel("p", {"early": [1.0, 2.0, nan, nan, nan, nan], "late": [nan, nan, nan, nan, 3.0, 4.0]})], "t"
    )
    for root in svgs(svg):
        lines = [path.get("d", "") for path in root.iter(f"{SVG}path") if "stroke-width: 1.7" in path.get("style", "")]
        early, late = ([float(x) for x in re.findall(r"[ML] (\S+) ", line)] for line in lines)
        assert (len(early), len(late)) == (2, 2)
        assert early[-1] < late[0]


def test_stages_are_named():
    svg = curves_plot([Panel("p", {"a": [1.0, 2.0, 3.0]})], "t", [(1, "exploring"), (3, "confirmation")])
    assert svg.count(">exploring<") == svg.count(">confirmation<") == 2


def test_figures_do_not_grow_with_the_run():
    rng = np.random.default_rng(0)
    sizes = {}
    for n in (300, 30_000):
        curves = {name: rng.normal(size=n) for name in "abc"}
        sizes[n] = [len(curves_plot([Panel("p", curves)], "t")), len(bars_plot(curves, "s", "t"))]
    assert max(np.divide(sizes[30_000], sizes[300])) < 1.2


def test_names_of_short_stages_do_not_overlap():
    """By hand, of 26 episodes: "tuning (optimistic)" needs 19 · 0.0125 · 26 = 6.2 of them and has 2."""
    axes = Figure().add_subplot()
    axes.set_xlim(0.5, 26.5)
    _name_stages(axes, [(1, "exploring"), (17, "tuning (optimistic)"), (19, "confirmation")])
    assert [one.xyann[1] for one in axes.texts] == [-2, -2, -13]
