"""Figures over episodes: every episode once, sizes that do not grow, valid SVG also where there is nothing to draw."""

import re
from itertools import pairwise
from math import nan
from xml.etree import ElementTree

import numpy as np
import pytest

from nmg.report import run_plots
from nmg.report.run_plots import Panel, bars_plot, curves_plot

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
        assert ElementTree.fromstring(svg).get("aria-label") == "t"


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
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        if path.get("clip-path") and "series" in path.get("style", ""):
            ys = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", path.get("d", ""))]
            bars[re.findall(r"series-\d", path.get("style", ""))[0]] = (max(ys), min(ys))
    (floor, first), (above_first, second), (above_second, top) = (bars[f"series-{number}"] for number in (1, 2, 3))
    assert (first, second) == (above_first, above_second)
    heights = [floor - first, first - second, second - top]
    np.testing.assert_allclose(np.divide(heights, floor - top), [1 / 6, 3 / 6, 2 / 6], rtol=1e-3)


@pytest.mark.parametrize(
    ("names", "width", "expected"),
    [
        (["learner", "opponent", "random"], 3.6, 3),
        ([f"candidate-{n}" for n in range(8)], 7.2, 5),
        (["a" * 200, "b"], 7.2, 1),
        ([], 7.2, 1),
    ],
)
def test_a_legend_takes_as_many_rows_as_its_names_need(names: list[str], width: float, expected: int):
    assert run_plots._names_a_row(names, width) == expected


def test_more_curves_than_colours():
    svg = curves_plot([Panel("p", {f"curve {n}": [float(n)] for n in range(20)})], "t")
    texts = {text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert {f"curve {n}" for n in range(20)} <= texts


def test_figures_do_not_grow_with_the_run():
    rng = np.random.default_rng(0)
    sizes = {}
    for n in (300, 30_000):
        curves = {name: rng.normal(size=n) for name in "abc"}
        sizes[n] = [len(curves_plot([Panel("p", curves)], "t")), len(bars_plot(curves, "s", "t"))]
    assert max(np.divide(sizes[30_000], sizes[300])) < 1.2
