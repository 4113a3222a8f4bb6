"""A grid: two data sets × two models, and its tests by hand."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nmg.base.errors import UserError
from nmg.comparison.grid import GridResults, analyse_grid, chosen_base, parts_of
from nmg.comparison.plan import Plan
from nmg.comparison.results import ComparisonResults, analyse
from nmg.comparison.run import Finished
from nmg.comparison.trials import Condition
from nmg.comparison.worker import ComparisonWorker
from nmg.config import Config
from nmg.jobs.compare import compare_grid
from nmg.report.grid import differences_table, means_table, reading, titled_tables
from nmg.report.grid_files import scores_csv, write_grid
from nmg.report.grid_page import grid_page
from nmg.report.page import render_page
from support.command import Nmg
from support.planted import WORDS, write_planted
from support.runs import Inputs
from support.tiny import save_tiny_bert

from .helpers import quick, save_policy
from .test_results import cell

FILES = {"grid.json", "grid.md", "grid.csv", "grid.tex", "index.html"}
PART_FILES = {"cells", "results.json", "results.md", "results.csv", "results.tex", "index.html"}


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `inputs.model`, twice as wide: a policy for one does not fit the other."""
    return save_tiny_bert(tmp_path_factory.mktemp("wide") / "wide", WORDS, hidden=32, dropout=0.1)


@pytest.fixture
def configs(inputs: Inputs, tmp_path: Path) -> dict[str, Config]:
    other = write_planted(tmp_path / "other.jsonl", 40, seed=3)
    return {"first": quick(inputs), "second": quick(inputs, data={"train": str(other)})}


@pytest.fixture
def files(inputs: Inputs, configs: dict[str, Config], tmp_path: Path) -> list[Path]:
    for name, config in configs.items():
        (tmp_path / f"{name}.yaml").write_text(config.to_yaml(), encoding="utf-8")
    return [tmp_path / f"{name}.yaml" for name in configs]


@pytest.fixture
def models(inputs: Inputs, wide_model: Path) -> dict[str, str]:
    return {"narrow": str(inputs.model), "wide": str(wide_model)}


@pytest.fixture(autouse=True)
def _quick_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at every correction, which takes longer than the rest."""
    monkeypatch.setattr("gc.collect", lambda: 0)


NAMES = ["first.narrow", "first.wide", "second.narrow", "second.wide"]


def test_two_data_sets_with_two_models(
    nmg: Nmg, files: list[Path], models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    choice = ",".join(f"{name}={folder}" for name, folder in models.items())
    words = ("compare", *files, "--models", choice, "--maskings", "none,random", "--out", "out")
    answer = nmg(*words, "--seeds", "2")
    assert answer.code == 0, answer.err
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == FILES | set(NAMES)
    for name in NAMES:
        assert {path.name for path in (out / name).iterdir()} == PART_FILES
    assert "comparison 4 of 4: second.wide" in answer.err
    assert "cell 4/4" in answer.err
    assert "first · narrow" in answer.out

    parts = {name: json.loads((out / name / "results.json").read_text()) for name in NAMES}
    for name, results in parts.items():
        assert results["settings"]["model"]["name"] == models[name.partition(".")[2]]
    grid = json.loads((out / "grid.json").read_text())
    (family,) = grid["families"]
    assert family["metric"] == "accuracy"
    for score in family["scores"]:
        (alone,) = [
            one for one in parts[score["comparison"]]["results"][0]["maskings"] if one["masking"] == score["masking"]
        ]
        assert alone["metrics"]["accuracy"]["mean"] == score["mean"]
    assert len(family["scores"]) == 8
    assert [(one["comparison"], one["first"], one["second"]) for one in family["differences"]] == [
        (name, "none", "random") for name in NAMES
    ]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all(f'<a href="{name}/index.html">' in page for name in NAMES)

    (out / "second.wide" / "cells" / "random.seed-1.json").unlink()
    answer = nmg(*words, "--seeds", "2")
    assert answer.code == 0, answer.err
    assert answer.err.count("4 cells are there already, 0 are missing") == 3
    assert "3 cells are there already, 1 are missing" in answer.err


def test_one_configuration_alone_is_no_grid(nmg: Nmg, files: list[Path], inputs: Inputs, tmp_path: Path):
    words = ("--maskings", "none", "--seeds", "1")
    assert nmg("compare", files[0], "--out", "alone", *words).code == 0
    assert {path.name for path in (tmp_path / "alone").iterdir()} == PART_FILES
    assert nmg("compare", files[0], "--models", inputs.model, "--out", "grid", *words).code == 0
    assert {path.name for path in (tmp_path / "grid").iterdir()} == FILES | {"first.model"}


def test_several_configurations_keep_their_own_models(nmg: Nmg, files: list[Path], tmp_path: Path):
    words = ("--run.seed", "3", f"named={files[0]}", files[1], "--maskings", "none", "--seeds", "1", "--out", "out")
    answer = nmg("compare", *words)
    assert answer.code == 0, answer.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"named", "second"}
    assert (tmp_path / "out" / "named" / "cells" / "none.seed-3.json").is_file()


def test_policies_go_to_the_models_that_they_fit(configs: dict[str, Config], models: dict[str, str], tmp_path: Path):
    policies = {"small": save_policy(tmp_path / "small"), "large": save_policy(tmp_path / "large", hidden_size=32)}
    parts = parts_of(configs, models, ["random", "untrained"], {"small": policies["small"]})
    assert [list(part.policies) for part in parts] == [["small"], [], ["small"], []]
    assert [list(part.maskings) for part in parts] == [["random", "untrained"], ["random"]] * 2
    assert [list(part.left_out) for part in parts] == [[], ["small", "untrained"]] * 2
    parts = parts_of(configs, models, ["random", "untrained"], policies)
    assert [list(part.policies) for part in parts] == [["small"], ["large"]] * 2
    assert chosen_base(None, parts) == "random"
    with pytest.raises(UserError, match=r"--baseline small: does not fit the model of 'first\.wide'"):
        chosen_base("small", parts)


def test_a_grid_with_a_policy_that_fits_half_of_it(inputs: Inputs, models: dict[str, str], tmp_path: Path):
    policies = {"small": save_policy(tmp_path / "small")}
    grid = compare_grid(
        {"first": quick(inputs)}, ["random"], tmp_path / "out", models=models, policies=policies, seeds=1
    )
    assert [(one.part.name, one.pair.first) for one in grid.families[0].differences] == [("first.narrow", "small")]
    means = {row[0]: row[1:] for row in means_table(grid.families[0], Condition(), "random").rows}
    assert means["small"][1] == "–"
    assert "left out there: small in first · wide." in reading(grid)


def test_a_cell_and_a_comparison_that_fail_do_not_stop_the_others(
    nmg: Nmg, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    true_cell, true_head = ComparisonWorker._cell, ComparisonWorker.with_head

    def cell_of(session: ComparisonWorker, key: Any, *arguments: Any) -> Any:
        if key.masking == "random":
            raise RuntimeError("out of memory")
        return true_cell(session, key, *arguments)

    def with_head(session: ComparisonWorker) -> ComparisonWorker:
        if session.folder.out.name == "first":
            raise RuntimeError("the disk is gone")
        return true_head(session)

    words = ("compare", *files, "--out", "out", "--maskings", "none,random", "--seeds", "1")
    with monkeypatch.context() as patch:
        patch.setattr(ComparisonWorker, "_cell", cell_of)
        patch.setattr(ComparisonWorker, "with_head", with_head)
        answer = nmg(*words)
    assert answer.code == 1
    assert "failed: first: RuntimeError: the disk is gone (out/first.error.txt)" in answer.err
    assert "(out/second/cells/random.seed-0.error.txt)" in answer.err
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == FILES | {"second", "first.error.txt"}
    assert "failed as a whole; the correction counts the planned tests all the same. 1 cell failed" in (
        out / "grid.md"
    ).read_text(encoding="utf-8")
    assert "What failed" in (out / "index.html").read_text(encoding="utf-8")
    assert nmg(*words).code == 0
    assert {path.name for path in out.iterdir()} == FILES | {"first", "second"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--maskings", "random,randon"), "first: There is no masking 'randon'"),
        (("--baseline", "idf"), "--baseline idf: is not among the maskings of 'first'"),
        (("--policies", "odd=odd"), "--policies odd=odd: fits no model of the grid: "),
        (("--models", ","), "--models: name at least one model"),
        (("--models", "a/x,b/x"), "b/x: 'x' is also the name of a/x; write NAME=MODEL"),
        (("--models", "/nowhere/lm"), "first.lm: "),
        (("first.yaml",), "first.yaml: 'first' is also the name of "),
        (("FIRST=second.yaml",), "cannot be told apart"),
        (("--data.test", "null"), "first: data.test: a comparison needs a test set"),
        (("--out", "full"), "something else than a grid"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_refused_before_any_training(
    nmg: Nmg, files: list[Path], tmp_path: Path, words: tuple[str, ...], message: str
):
    (tmp_path / "full" / "cells").mkdir(parents=True)
    save_policy(tmp_path / "odd", hidden_size=24)
    before = sorted(tmp_path.rglob("*"))
    answer = nmg("compare", *files, "--out", "out", "--maskings", "none,random", "--seeds", "1", *words)
    assert answer.code == 2
    assert answer.out == ""
    (line,) = [line for line in answer.err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"


def test_base_is_of_a_grid_alone(nmg: Nmg, files: list[Path]):
    answer = nmg("compare", files[0], "--out", "out", "--baseline", "random")
    assert answer.code == 2
    assert "--baseline: only a grid has one" in answer.err


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
    assert [title for title, _ in titled_tables(grid)] == [
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
    assert "1 difference, marked †, of cells made under different environment" in reading(grid)
    marked = [row[0] for row in differences_table(grid.families[0]).rows if row[0].endswith("†")]
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
    page = render_page(grid_page(analyse_grid("random", parts, {parts[0].name: results_of(SCORES["one"])}, {})))
    assert "<b>" not in page
    assert 'href="b-x/index.html"' in page


def test_nothing_ran():
    parts = parts_of({"one": Config()}, {}, ["none", "random"], {})
    grid = analyse_grid("random", parts, {}, {"one": "RuntimeError: gone"})
    assert reading(grid).startswith("1 comparison failed as a whole")
    assert "gone" in render_page(grid_page(grid))
