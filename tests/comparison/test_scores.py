"""Scores of runs made elsewhere: read, compared by hand values, and every error with its place."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import nmg
from nmg.base.errors import UserError
from nmg.cli import app
from nmg.comparison.scores import read_scores
from nmg.comparison.statistics import crossed_interval

HEADER = "method,seed,item,score"
TABLES = {"a": [[0, 0, 1], [0, 0.5, 1]], "b": [[1, 0.5, 1], [0, 1, 1]]}
ROWS = [
    f"{name},{seed},text {item},{TABLES[name][seed][item]}" for name, seed, item in product(TABLES, range(2), range(3))
]


@pytest.fixture(autouse=True)
def _quick_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at every correction, which takes longer than the rest."""
    monkeypatch.setattr("gc.collect", lambda: 0)


def written(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "scores.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_scores_are_paired_by_seed_and_item_in_any_order(tmp_path: Path):
    trials = read_scores(written(tmp_path, *ROWS[::-1]))
    assert {(one.spec.masking, one.spec.seed) for one in trials} == set(product("ab", range(2)))
    for one in trials:
        expected = TABLES[one.spec.masking][one.spec.seed]
        assert one.example_scores["score"].tolist() == expected[::-1]
        assert one.scores == {"score": pytest.approx(np.mean(expected))}


def test_a_comparison_of_scores(tmp_path: Path):
    out = tmp_path / "out"
    results = nmg.compare_scores(written(tmp_path, *ROWS), out, baseline="a", margin=0.5)
    (pair,) = results.pairs
    assert (pair.first, pair.second, pair.margin) == ("b", "a", 0.005)
    assert pair.test.mean == pytest.approx(2 / 6)
    assert pair.seeds_and_texts == crossed_interval(np.array(TABLES["b"]) - np.array(TABLES["a"]))
    page = (out / "results.md").read_text(encoding="utf-8")
    assert "**Verdict:** No difference between methods is shown. The highest mean score is that of 'b'." in page
    assert "95 %, seeds and texts" in page
    assert "asked tokens" not in page
    assert "learning\\_rate" not in page
    facts = json.loads((out / "results.json").read_text())
    assert facts["parts"][0]["settings"] == {"test": {"margin": 0.5}}
    nmg.compare_scores(tmp_path / "scores.csv", out)  # replaces the files
    (out / "trials.jsonl").touch()
    with pytest.raises(UserError, match="files that do not belong to a comparison of scores"):
        nmg.compare_scores(tmp_path / "scores.csv", out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({3: "a,0,text 2"}, "line 4, field 'score': there is no such column"),
        ({3: "a,0,text 2,"}, "line 4, field 'score': is empty"),
        ({3: "a,0,text 2,x"}, "line 4, field 'score': 'x' is not a number"),
        ({3: "a,0,text 2,NaN"}, "line 4, field 'score': 'NaN' is not a finite number"),
        ({3: "a,0,text 2,87.5"}, "line 4, field 'score': 87.5 is not between −1 and 1; divide points"),
        ({3: "a,x,text 2,1"}, "line 4, field 'seed': 'x' is not a whole number from 0"),
        ({3: ",0,text 2,1"}, "line 4, field 'method': is empty"),
        ({3: ROWS[0]}, "line 4: method 'a', seed 0, item 'text 0' already has a score in line 2"),
        ({12: ""}, "field 'score': there is no score of method 'b', seed 1, item 'text 2'"),
        ({12: "b,2,text 2,1"}, "field 'score': there is no score of method 'a', seed 2, item 'text 0'"),
        ({0: "method,seed,text,score"}, "line 2, field 'item': there is no such column or value; the row has method"),
        (dict.fromkeys(range(7, 13), ""), "field 'method': names 1 methods; a comparison needs at least 2"),
        (dict.fromkeys(range(1, 13), ""), "field 'method': names 0 methods; a comparison needs at least 2"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, change: dict[int, str], message: str):
    lines = {**dict(enumerate([HEADER, *ROWS])), **change}
    path = written(tmp_path, *list(lines.values())[1:], header=lines[0])
    with pytest.raises(UserError) as caught:
        nmg.compare_scores(path, tmp_path / "out")
    assert str(caught.value).startswith(f"{path}, ")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def run(*words: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["compare", *map(str, words)])
    return found.exit_code, found.output + str(found.exception or "")


def test_the_command_compares_scores(tmp_path: Path):
    path = written(tmp_path, *ROWS)
    code, said = run("--scores", path, "--out", tmp_path / "out", "--test.margin", "0.5")
    assert code == 0
    assert "Verdict: No difference between methods is shown." in said
    assert "Why: No pair differs on score" in said
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "3"], "--seeds: does not fit --scores"),
        (["config.yaml"], "config.yaml: --scores needs no configuration"),
        (["--adapt.epochs", "3"], "--adapt.epochs: does not fit --scores"),
        (["--baseline", "c"], "--baseline c: is not among the methods"),
        (["--test.margin", "x"], "--test.margin"),
    ],
)
def test_what_does_not_fit_scores_is_refused(tmp_path: Path, words: list[str], message: str):
    code, said = run("--scores", written(tmp_path, *ROWS), "--out", tmp_path / "out", *words)
    assert code != 0
    assert message in said
    assert not (tmp_path / "out").exists()
