"""The tests and files of a grid, by hand."""

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nmg.base.trial import TrialResult
from nmg.comparison.analysis import analyse, compared
from nmg.comparison.parts import Cells, Part, parts_of
from nmg.comparison.results import ComparisonResults, Pair, PartResults
from nmg.comparison.run import Finished
from nmg.config import Config
from nmg.report.comparison import differences_table, means_tables, terminal_tables
from nmg.report.comparison_files import cells_csv, write_comparison
from nmg.report.comparison_page import comparison_page
from nmg.report.comparison_summary import reading
from nmg.report.html import render_html
from nmg.trials.inputs import SharedInputs

from .test_results import cell

FILES = {"results.json", "results.md", "results.csv", "results.tex", "index.html"}


@pytest.fixture(autouse=True)
def _quick_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at every correction, which takes longer than the rest."""
    monkeypatch.setattr("gc.collect", lambda: 0)


SCORES = {
    "one": {"none": [0.50, 0.60, 0.70], "random": [0.51, 0.64, 0.72], "idf": [0.55, 0.685, 0.77]},
    "two": {"none": [0.40, 0.52, 0.60], "random": [0.47, 0.58, 0.68], "idf": [0.44, 0.59, 0.65]},
}


def parts_named(*names: str, **curves: Any) -> list[Part]:
    cells = Cells(list(SCORES["one"]), {}, 3, curves)
    return parts_of({name: Config() for name in names}, {}, cells, SharedInputs())


def cells_of(scores: Mapping[str, list[float]], metric: str = "accuracy") -> list[TrialResult]:
    cells = [cell(name, seed, score) for name, values in scores.items() for seed, score in enumerate(values)]
    return [replace(one, scores={metric: one.scores["accuracy"]}) for one in cells]


def part_of(
    part: Part, cells: list[TrialResult], *metrics: str, failures: Mapping[str, str] | None = None
) -> PartResults:
    return analyse(part, metrics or ("accuracy",), Finished(cells, dict(failures or {})))


def grid_of(metrics: Mapping[str, str], baseline: str = "random") -> ComparisonResults:
    """One part for each data set of SCORES, scored by its metric."""
    parts = parts_named(*metrics)
    return compared(
        [part_of(one, cells_of(SCORES[one.name], metrics[one.name]), metrics[one.name]) for one in parts], baseline
    )


def differences(grid: ComparisonResults, metric: str = "accuracy") -> dict[tuple[str, str], Pair]:
    """(part, masking) → its test against the baseline."""
    return {(one.part.name, pair.first): pair for one in grid.family(metric) for pair in one.pairs}


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
    grid = grid_of({"one": "accuracy", "two": "accuracy"})
    assert grid.families == {"accuracy": 4}
    by_hand, found = differences_by_hand(), differences(grid)
    p_values = {key: float(stats.ttest_1samp(values, 0.0).pvalue) for key, values in by_hand.items()}
    corrected = holm_by_hand(p_values)
    ranked = holm_by_hand(
        {key: float(stats.wilcoxon(values, method="exact").pvalue) for key, values in by_hand.items()}
    )
    assert found.keys() == by_hand.keys()
    for key, pair in found.items():
        test = pair.test
        assert pair.second == "random"
        assert test.mean == pytest.approx(by_hand[key].mean())
        low, high = stats.t.interval(0.95, 2, by_hand[key].mean(), stats.sem(by_hand[key]))
        assert (test.low, test.high) == pytest.approx((low, high))
        assert test.wins == (by_hand[key] > 0).sum()
        assert test.losses == (by_hand[key] < 0).sum()
        assert test.effect_size == pytest.approx(by_hand[key].mean() / by_hand[key].std(ddof=1))
        assert pair.t_p_holm == pytest.approx(corrected[key])
        assert pair.wilcoxon_p_holm == pytest.approx(ranked[key])
    assert 4 * min(p_values.values()) == pytest.approx(min(pair.t_p_holm or 1 for pair in found.values()))


def test_a_family_is_what_was_planned():
    """A part that failed, and a masking without cells, leave the correction as strict as it was."""
    one, two = parts_named("one", "two")
    cells = cells_of({name: SCORES["one"][name] for name in ("random", "idf")})
    results = part_of(one, cells, failures={"none.seed-0": "x"})
    grid = compared([results], "random", [(two, "RuntimeError: gone")])
    ((key, difference),) = differences(grid).items()
    assert key == ("one", "idf")
    assert grid.families == {"accuracy": 4}
    assert difference.t_p_holm == pytest.approx(min(1.0, 4 * (difference.test.t_p or 0.0)))
    assert grid.failures == {"two": "RuntimeError: gone", "one/none.seed-0": "x"}
    assert "1 part failed as a whole; the correction still counts the planned tests. 1 trial failed" in reading(grid)


def test_another_metric_is_another_family():
    grid = grid_of({"one": "accuracy", "two": "f1"})
    assert grid.families == {"accuracy": 2, "f1": 2}
    p_values = {key: float(stats.ttest_1samp(values, 0.0).pvalue) for key, values in differences_by_hand().items()}
    for name, metric in (("one", "accuracy"), ("two", "f1")):
        corrected = holm_by_hand({key: p for key, p in p_values.items() if key[0] == name})
        found = {key: pair.t_p_holm for key, pair in differences(grid, metric).items()}
        assert found == pytest.approx(corrected)


def test_another_baseline():
    grid = grid_of({"one": "accuracy", "two": "accuracy"}, "idf")
    assert {key: pair.test.mean for key, pair in differences(grid).items()} == pytest.approx(
        {key: values.mean() for key, values in differences_by_hand("idf").items()}
    )


def test_one_part_alone_may_have_a_baseline():
    """The family is then of the differences from it alone."""
    (part,) = parts_named("one")
    alone = part_of(part, cells_of(SCORES["one"])).alone()
    assert compared([alone]).families == {"accuracy": 3}
    results = compared([alone], "none")
    assert results.families == {"accuracy": 2}
    assert [(pair.first, pair.second) for pair in results.pairs] == [("random", "none"), ("idf", "none")]
    assert [table.caption for table in terminal_tables(results)] == ["Scores on the test set", "Differences from none"]
    assert not results.is_grid


def test_the_table_of_means_and_its_stars():
    grid = grid_of({"one": "accuracy", "two": "accuracy"})
    (table,) = means_tables(grid, "accuracy")
    assert table.header == ("masking", "one · bert-base-uncased", "two · bert-base-uncased")
    shown = {row[0]: row[1:] for row in table.rows}
    assert shown["random"][0].startswith("62.3 [36.0, 88.7]")
    starred = {key for key, pair in differences(grid).items() if (pair.t_p_holm or 1) < 0.05}
    assert starred
    for row in table.rows:
        assert [value.endswith("*") for value in row[1:]] == [(name, row[0]) in starred for name in SCORES]
    text = reading(grid)
    verb = "differs" if len(starred) == 1 else "differ"
    assert text.startswith(f"{len(starred)} of 4 planned pairs {verb} on accuracy at 5 % after Holm's correction")
    assert re.search(r"idf − random \(\S+ \[.*?\], corrected p = \S+, in one · bert-base-uncased\)", text)


def test_points_of_learning_curves_are_tables_of_their_own_in_one_family():
    cells = [
        cell(name, seed, score + 0.01 * seed * (labelled == 16), labelled=labelled)
        for labelled in (4, 16)
        for name, values in SCORES["one"].items()
        for seed, score in enumerate(values)
    ]
    (part,) = parts_named("one", labelled=(4, 16))
    grid = compared([part_of(part, cells, "accuracy", "loss")], "random")
    assert grid.families == {"accuracy": 4}
    assert [table.caption for table in comparison_page(grid).tables()] == [
        "accuracy on the test sets: 4 labelled examples of each class",
        "accuracy on the test sets: 16 labelled examples of each class",
        "Differences of accuracy from random",
    ]
    few, many = (table.rows[1][1] for table in means_tables(grid, "accuracy"))
    assert (few[:4], many[:4]) == ("62.3", "63.3")
    assert [row["labelled"] for row in csv.DictReader(io.StringIO(cells_csv(grid)))] == ["4"] * 9 + ["16"] * 9


def test_differences_of_cells_made_otherwise_are_marked():
    (part,) = parts_named("one")
    cells = [
        replace(one, environment={"precision": "bf16" if one.spec.masking == "idf" else "fp32"})
        for one in cells_of(SCORES["one"])
    ]
    grid = compared([part_of(part, cells)], "random")
    assert "In 1 pair, marked †, they differ within a seed" in reading(grid)
    marked = [row[0] for row in differences_table(grid, "accuracy").rows if "†" in row[0]]
    assert marked == ["idf − random†"]


def test_files_hold_the_same_numbers(tmp_path: Path):
    grid = grid_of({"one": "accuracy", "two": "f1"})
    write_comparison(tmp_path, grid)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    rows = list(csv.DictReader(io.StringIO(cells_csv(grid))))
    assert len(rows) == 18
    (row,) = [row for row in rows if (row["part"], row["masking"], row["seed"]) == ("two", "idf", "1")]
    assert (row["data"], row["model"]) == ("two", "bert-base-uncased")
    assert (float(row["f1"]), row["accuracy"]) == (SCORES["two"]["idf"][1], "")
    facts = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert facts["baseline"] == "random"
    assert [part["name"] for part in facts["parts"]] == ["one", "two"]
    (result,) = [one for one in facts["results"] if one["part"] == "two"]
    assert result["tested_metric"] == "f1"
    (pair,) = [one for one in result["pairs"] if one["first"] == "idf"]
    assert (pair["second"], pair["t_p_holm"]) == ("random", differences(grid, "f1")["two", "idf"].t_p_holm)
    assert result["maskings"][2]["metrics"]["f1"]["mean"] == pytest.approx(np.mean(SCORES["two"]["idf"]))
    tex = (tmp_path / "results.tex").read_text(encoding="utf-8")
    assert r"one $\cdot$ bert-base-uncased" in tex
    assert "f1 on the test sets" in (tmp_path / "results.md").read_text(encoding="utf-8")
    assert not re.search(r"\bNaN\b", (tmp_path / "results.json").read_text(encoding="utf-8"))


def test_a_hostile_name_is_text_on_the_page():
    (part,) = parts_named('<b>"x')
    page = render_html(comparison_page(compared([part_of(part, cells_of(SCORES["one"]))], "random")))
    assert "<b>" not in page
    assert 'href="b-x/index.html"' in page


def test_nothing_ran():
    (part,) = parts_named("one")
    grid = compared([], "random", [(part, "RuntimeError: gone")])
    assert reading(grid).startswith("1 part failed as a whole")
    assert "gone" in render_html(comparison_page(grid))
