"""Figures: valid SVG, the page's colours, nothing loaded, the same figure the same text."""

import functools
import re
from itertools import combinations
from math import nan

import matplotlib as mpl
import numpy as np
import pytest

from nmg.comparison.statistics import Estimate
from nmg.report.curve_plots import score_curves
from nmg.report.plots import axis_name, results_plot, running_mean
from nmg.report.run_plots import Panel, bars_plot, curves_plot

from .helpers import svgs

SCORES = {"learner": [0.5, 0.6, 0.7, 0.65], "opponent": [0.5, nan, 0.6, 0.6], "random": [0.4, 0.5, 0.5, 0.6]}
POINTS = [(1, Estimate(3, 0.5, 0.1, 0.3, 0.7)), (10, Estimate(1, 0.6, None, None, None))]


@functools.cache
def figures() -> dict[str, str]:
    return {
        "results": results_plot(SCORES, "accuracy", title='Scores <of> "players"'),
        "curves": curves_plot([Panel("scores", SCORES), Panel("entropy", {"learner": [nan, 3.0, 2.9]})], "Curves"),
        "bars": bars_plot(SCORES, "seconds", "Bars"),
        "levels": score_curves({"random": POINTS}, "accuracy", "labels", {"none": 0.4}),
    }


@pytest.mark.parametrize("name", ["results", "curves", "bars", "levels"])
def test_svg_suits_a_page(name):
    svg = figures()[name]
    wide, narrow = svgs(svg)
    assert [root.get("class") for root in (wide, narrow)] == ["on-wide", "on-narrow"]
    assert "none" in narrow.get("style", ""), "only the wide figure is visible without the page's style"
    widths = [float(root.get("viewBox", "").split()[2]) for root in (wide, narrow)]
    assert widths == pytest.approx([7.2 * 72, 3.7 * 72])
    for root in (wide, narrow):
        assert root.get("width") is None
        assert root.get("role") == "img"
    assert "currentColor" in svg
    assert "var(--series-1" in svg
    assert set(re.findall(r"#0[\da-f]{5}\b", svg)) == set(), "a marker colour was left"
    assert "<style" not in svg
    assert set(re.findall(r"https?://[^\"]*", svg)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    ids = [element.get("id") for root in (wide, narrow) for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)
    referenced = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
    assert {first or second for first, second in referenced} <= set(ids)


def test_title_and_labels_are_text():
    svg = figures()["results"]
    for root in svgs(svg):
        assert root.get("aria-label") == 'Scores <of> "players"'
    assert svg.count(">learner<") == 2
    assert svg.count(">accuracy × 100 (higher is better)<") == 2


def test_the_axis_says_which_way_is_better():
    assert [axis_name(metric) for metric in ("f1", "loss", "held_out_loss")] == [
        "f1 × 100 (higher is better)",
        "loss (lower is better)",
        "held_out_loss (lower is better)",
    ]


def test_figures_are_reproducible_and_their_ids_their_own():
    once, again = figures(), figures.__wrapped__()
    assert once == again
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in once.values()]
    assert all(not one & other for one, other in combinations(ids, 2))


def test_drawing_leaves_matplotlib_alone():
    before = dict(mpl.rcParams)
    results_plot(SCORES, "accuracy")
    assert dict(mpl.rcParams) == before


def test_nothing_to_draw():
    for svg in (
        results_plot({}, "f1"),
        results_plot({"random": [], "none": [0.5]}, "f1"),
    ):
        assert len(svgs(svg)) == 2


def test_running_mean():
    assert running_mean([1.0, 2.0, 3.0, 6.0], 2).tolist() == [1.0, 1.5, 2.5, 4.5]
    np.testing.assert_allclose(running_mean([nan, nan, 4.0, nan, 2.0], 2), [nan, nan, 4.0, 4.0, 2.0])
    assert running_mean([], 3).tolist() == []
