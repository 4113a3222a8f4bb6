"""The tests and files of a grid, by hand."""

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nmg.comparison.grid import GridResults, analyse_grid, parts_of
from nmg.comparison.plan import Plan
from nmg.comparison.results import ComparisonResults, analyse
from nmg.comparison.run import Finished
from nmg.comparison.trials import Condition
from nmg.config import Config
from nmg.report.grid import differences_table, means_table, reading
from nmg.report.grid_files import scores_csv, write_grid
from nmg.report.grid_page import grid_page
from nmg.report.html import render_html

from .test_results import cell

FILES = {"grid.json", "grid.md", "grid.csv", "grid.tex", "index.html"}


@pytest.fixture(autouse=True)
def _quick_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at every correction, which takes longer than the rest."""
    monkeypatch.setattr("gc.collect", lambda: 0)


SCORES = {
    "one": {"none": [0.50, 0.60, 0.70], "random": [0.51, 0.64, 0.72], "idf": [0.55, 0.685, 0.77]},
    "two": {"none": [0.40, 0.52, 0.60], "random": [0.47, 0.58, 0.68], "idf": [0.44, 0.59, 0.65]},
}


def results_of(scores: Mapping[str, list[float]], metric: str = "accuracy") -> ComparisonResults:
    cells = [cell(name, seed, score) for name, values in scores.items() for seed, score in enumerate(values)]
    cells = [replace(one, scores={metric: one.scores["accuracy"]}) for one in cells]
    return analyse(Config(), Plan.of(list(scores), {}, range(3)), (metric,), Finished(cells, {}))


def grid_of(metrics: Mapping[str, str], base: str = "random") -> GridResults:
    """One part for each data set of SCORES, scored by its metric."""
    parts = parts_of({name: Config() for name in metrics}, {}, list(SCORES["one"]), {})
    return analyse_grid(base, parts, {name: results_of(SCORES[name], metric) for name, metric in metrics.items()}, {})


def differences_by_hand(base: str = "random") -> dict[tuple[str, str], np.ndarray]:
    return {
        (part, name): np.array(values) - np.array(scores[base])
        for part, scores in SCORES.items()
        for name, values in scores.items()
        if name != base
    }


def holm_by_hand(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """Step down: the smallest times n, the next times n − 1, …, never less than the one before, at most 1."""
    corrected, highest = {}, 0.0
    for rank, (key, p) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p))
        corrected[key] = highest
    return corrected


def test_one_family_over_all_tests_of_a_metric():
    (family,) = grid_of({"one": "accuracy", "two": "accuracy"}).families
    assert family.n_planned == 4
    by_hand = differences_by_hand()
    p_values = {key: float(stats.ttest_1samp(values, 0.0).pvalue) for key, values in by_hand.items()}
    corrected = holm_by_hand(p_values)
    ranked = holm_by_hand(
        {key: float(stats.wilcoxon(values, method="exact").pvalue) for key, values in by_hand.items()}
    )
    for one in family.differences:
        key, test = (one.part.name, one.pair.first), one.pair.test
        assert one.pair.second == "random"
        assert test.mean == pytest.approx(by_hand[key].mean())
        low, high = stats.t.interval(0.95, 2, by_hand[key].mean(), stats.sem(by_hand[key]))
        assert (test.low, test.high) == pytest.approx((low, high))
        assert test.wins == (by_hand[key] > 0).sum()
        assert test.losses == (by_hand[key] < 0).sum()
        assert test.effect_size == pytest.approx(by_hand[key].mean() / by_hand[key].std(ddof=1))
        assert one.pair.t_p_holm == pytest.approx(corrected[key])
        assert one.pair.wilcoxon_p_holm == pytest.approx(ranked[key])
    assert 4 * min(p_values.values()) == pytest.approx(min(one.pair.t_p_holm or 1 for one in family.differences))


def test_a_family_is_what_was_planned():
    """A comparison that failed, and a masking without cells, leave the correction as strict as it was."""
    parts = parts_of({"one": Config(), "two": Config()}, {}, list(SCORES["one"]), {})
    scores = {name: SCORES["one"][name] for name in ("random", "idf")}
    cells = [cell(name, seed, score) for name, values in scores.items() for seed, score in enumerate(values)]
    plan = Plan.of(list(SCORES["one"]), {}, range(3))
    results = analyse(Config(), plan, ("accuracy",), Finished(cells, {"none.seed-0": "x"}))
    (family,) = analyse_grid("random", parts, {"one": results}, {"two": "RuntimeError: gone"}).families
    (difference,) = family.differences
    assert family.n_planned == 4
    assert difference.pair.t_p_holm == pytest.approx(min(1.0, 4 * (difference.pair.test.t_p or 0.0)))


def test_another_metric_is_another_family():
    families = grid_of({"one": "accuracy", "two": "f1"}).families
    assert [(family.metric, family.n_planned) for family in families] == [("accuracy", 2), ("f1", 2)]
    p_values = {key: float(stats.ttest_1samp(values, 0.0).pvalue) for key, values in differences_by_hand().items()}
    for name, family in zip(SCORES, families, strict=True):
        corrected = holm_by_hand({key: p for key, p in p_values.items() if key[0] == name})
        assert {(one.part.name, one.pair.first): one.pair.t_p_holm for one in family.differences} == pytest.approx(
            corrected
        )


def test_another_base():
    (family,) = grid_of({"one": "accuracy", "two": "accuracy"}, "idf").families
    assert {(one.part.name, one.pair.first): one.pair.test.mean for one in family.differences} == pytest.approx(
        {key: values.mean() for key, values in differences_by_hand("idf").items()}
    )


def test_the_table_of_means_and_its_stars():
    grid = grid_of({"one": "accuracy", "two": "accuracy"})
    (family,) = grid.families
    table = means_table(family, Condition(), "random")
    assert table.header == ("masking", "one · bert-base-uncased", "two · bert-base-uncased")
    shown = {row[0]: row[1:] for row in table.rows}
    assert shown["random"][0].startswith("62.3 [36.0, 88.7]")
    starred = {(one.part.name, one.pair.first) for one in family.differences if (one.pair.t_p_holm or 1) < 0.05}
    assert starred
    for row in table.rows:
        assert [value.endswith("*") for value in row[1:]] == [(name, row[0]) in starred for name in SCORES]
    text = reading(grid)
    assert text.startswith(f"{len(starred)} of 4 planned differences from random on accuracy")
    assert "idf − random in one · bert-base-uncased" in text


def test_points_of_learning_curves_are_tables_of_their_own_in_one_family():
    cells = [
        cell(name, seed, score + 0.01 * seed * (labelled == 16), labelled=labelled)
        for labelled in (4, 16)
        for name, values in SCORES["one"].items()
        for seed, score in enumerate(values)
    ]
    plan = Plan.of(list(SCORES["one"]), {}, range(3), labelled=(4, 16))
    results = analyse(Config(), plan, ("accuracy", "loss"), Finished(cells, {}))
    parts = parts_of({"one": Config()}, {}, list(SCORES["one"]), {})
    grid = analyse_grid("random", parts, {"one": results}, {})
    (family,) = grid.families
    assert family.n_planned == 4
    assert [table.caption for table in grid_page(grid).tables()] == [
        "accuracy on the test sets: 4 labelled examples of each class",
        "accuracy on the test sets: 16 labelled examples of each class",
        "Differences of accuracy from random",
    ]
    few, many = (means_table(family, condition, "random").rows[1][1] for condition in family.settings)
    assert (few[:4], many[:4]) == ("62.3", "63.3")
    assert [row["labelled"] for row in csv.DictReader(io.StringIO(scores_csv(grid)))] == ["4"] * 3 + ["16"] * 3


def test_differences_of_cells_made_otherwise_are_marked():
    results = results_of(SCORES["one"])
    cells = [
        replace(one, environment={"precision": "bf16" if one.masking == "idf" else "fp32"}) for one in results.cells
    ]
    mixed = analyse(Config(), Plan.of(list(SCORES["one"]), {}, range(3)), ("accuracy",), Finished(cells, {}))
    parts = parts_of({"one": Config()}, {}, list(SCORES["one"]), {})
    grid = analyse_grid("random", parts, {"one": mixed}, {})
    assert "In 1 difference, marked †, the two cells ran in different environments" in reading(grid)
    marked = [row[0] for row in differences_table(grid.families[0], grid.base).rows if row[0].endswith("†")]
    assert marked == ["one · bert-base-uncased: idf − random†"]


def test_files_hold_the_same_numbers(tmp_path: Path):
    grid = grid_of({"one": "accuracy", "two": "f1"})
    write_grid(tmp_path, grid)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    rows = list(csv.DictReader(io.StringIO(scores_csv(grid))))
    assert len(rows) == 6
    (row,) = [row for row in rows if (row["comparison"], row["masking"]) == ("two", "idf")]
    (pair,) = [one.pair for one in grid.families[1].differences if one.pair.first == "idf"]
    assert float(row["mean"]) == pytest.approx(np.mean(SCORES["two"]["idf"]))
    assert float(row["difference"]) == pair.test.mean
    assert float(row["t_p_holm"]) == pair.t_p_holm
    assert row["metric"] == "f1"
    assert [row["difference"] for row in rows if row["masking"] == "random"] == ["", ""]
    tex = (tmp_path / "grid.tex").read_text(encoding="utf-8")
    assert r"one $\cdot$ bert-base-uncased" in tex
    assert "f1 on the test sets" in (tmp_path / "grid.md").read_text(encoding="utf-8")
    assert "nan" not in (tmp_path / "grid.json").read_text(encoding="utf-8").lower()


def test_a_hostile_name_is_text_on_the_page():
    parts = parts_of({'<b>"x': Config()}, {}, list(SCORES["one"]), {})
    page = render_html(grid_page(analyse_grid("random", parts, {parts[0].name: results_of(SCORES["one"])}, {})))
    assert "<b>" not in page
    assert 'href="b-x/index.html"' in page


def test_nothing_ran():
    parts = parts_of({"one": Config()}, {}, ["none", "random"], {})
    grid = analyse_grid("random", parts, {}, {"one": "RuntimeError: gone"})
    assert reading(grid).startswith("1 comparison failed as a whole")
    assert "gone" in render_html(grid_page(grid))
