"""A grid from start to end: two data sets × two models, their files, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from comparison.helpers import quick, save_policy
from nmg.base.errors import UserError
from nmg.comparison.parts import Cells, Part, chosen_baseline, parts_of
from nmg.comparison.worker import ComparisonWorker
from nmg.config import Config
from nmg.jobs.compare import compare
from nmg.report.comparison import means_tables
from nmg.report.comparison_summary import reading
from nmg.trials.inputs import SharedInputs
from support.command import Nmg
from support.planted import WORDS, write_planted
from support.runs import Inputs
from support.tiny import save_tiny_bert
from support.trials import break_trial

FILES = {"results.json", "results.md", "results.csv", "results.tex", "index.html"}
PART_FILES = FILES | {"trials.jsonl"}


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
    assert "trial 16/16" in answer.err
    assert "first · narrow" in answer.out

    parts = {name: json.loads((out / name / "results.json").read_text()) for name in NAMES}
    for name, results in parts.items():
        assert results["parts"][0]["settings"]["model"]["name"] == models[name.partition(".")[2]]
        assert [(pair["first"], pair["second"]) for pair in results["results"][0]["pairs"]] == [("random", "none")]
    grid = json.loads((out / "results.json").read_text())
    assert grid["families"] == [{"metric": "accuracy", "n_planned": 4}]
    assert grid["baseline"] == "random"
    for name, result in zip(NAMES, grid["results"], strict=True):
        assert result["part"] == name
        assert result["maskings"] == parts[name]["results"][0]["maskings"]
        assert [(pair["first"], pair["second"]) for pair in result["pairs"]] == [("none", "random")]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all(f'<a href="{name}/index.html">' in page for name in NAMES)

    stored = out / "second.wide" / "trials.jsonl"
    stored.write_text("".join(stored.read_text().splitlines(keepends=True)[:-1]))
    answer = nmg(*words, "--seeds", "2")
    assert answer.code == 0, answer.err
    assert answer.err.count("4 trials are finished, 0 are missing") == 3
    assert "3 trials are finished, 1 are missing" in answer.err


def test_lora_is_one_more_condition(nmg: Nmg, inputs: Inputs, tmp_path: Path):
    pytest.importorskip("peft", reason="needs peft (the `lora` extra)")
    adapt = {"learning_rate": 0.05}
    configs = {"whole": quick(inputs, adapt=adapt), "lora": quick(inputs, adapt=adapt | {"lora": {"rank": 2}})}
    for name, config in configs.items():
        (tmp_path / f"{name}.yaml").write_text(config.to_yaml(), encoding="utf-8")
    answer = nmg("compare", "whole.yaml", "lora.yaml", "--maskings", "none,random", "--seeds", "1", "--out", "out")
    assert answer.code == 0, answer.err
    cells: dict[str, dict[str, Any]] = {}
    for name in configs:
        results = json.loads((tmp_path / "out" / name / "results.json").read_text())
        assert results["parts"][0]["settings"]["adapt"]["lora"]["rank"] == (2 if name == "lora" else 0)
        cells[name] = {cell["masking"]: cell for cell in results["cells"]}
    none, random = ((cells["whole"][name], cells["lora"][name]) for name in ("none", "random"))
    assert none[0]["scores"] == none[1]["scores"], "without an adaptation, both are the same model"
    assert random[0]["lm_loss"] != random[1]["lm_loss"]


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
    assert '"seed": 3' in (tmp_path / "out" / "named" / "trials.jsonl").read_text()


def test_policies_go_to_the_models_that_they_fit(configs: dict[str, Config], models: dict[str, str], tmp_path: Path):
    policies = {"small": save_policy(tmp_path / "small"), "large": save_policy(tmp_path / "large", hidden_size=32)}

    def found(**given: Path) -> list[Part]:
        return parts_of(configs, models, Cells(["random", "untrained"], given, 1, {}), SharedInputs())

    parts = found(small=policies["small"])
    assert [part.plan.names for part in parts] == [["random", "untrained", "small"], ["random"]] * 2
    assert [list(part.left_out) for part in parts] == [[], ["small", "untrained"]] * 2
    parts = found(**policies)
    assert [part.plan.names[2:] for part in parts] == [["small"], ["large"]] * 2
    assert chosen_baseline(None, parts) == "random"
    with pytest.raises(UserError, match=r"--baseline small: does not fit the model of 'first\.wide'"):
        chosen_baseline("small", parts)


def test_a_grid_with_a_policy_that_fits_half_of_it(inputs: Inputs, models: dict[str, str], tmp_path: Path):
    policies = {"small": save_policy(tmp_path / "small")}
    grid = compare({"first": quick(inputs)}, ["random"], tmp_path / "out", models=models, policies=policies, seeds=1)
    assert [(one.part.name, pair.first) for one in grid.settings for pair in one.pairs] == [("first.narrow", "small")]
    means = {row[0]: row[1:] for row in means_tables(grid, "accuracy")[0].rows}
    assert means["small"][1] == "–"
    assert "if they do not fit a model: small in first · wide." in reading(grid)


def test_a_cell_and_a_comparison_that_fail_do_not_stop_the_others(
    nmg: Nmg, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    true_head = ComparisonWorker.with_head

    def with_head(session: ComparisonWorker) -> ComparisonWorker:
        if session.out.name == "first":
            raise RuntimeError("the disk is gone")
        return true_head(session)

    words = ("compare", *files, "--out", "out", "--maskings", "none,random", "--seeds", "1")
    with monkeypatch.context() as patch:
        break_trial(patch, "random", 0, RuntimeError("out of memory"))
        patch.setattr(ComparisonWorker, "with_head", with_head)
        answer = nmg(*words)
    assert answer.code == 1
    assert "failed: first: RuntimeError: the disk is gone (out/first.error.txt)" in answer.err
    assert "(out/second/errors/random.seed-0.txt)" in answer.err
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == FILES | {"second", "first.error.txt"}
    assert "failed as a whole; the correction still counts the planned tests. 1 trial failed" in (
        out / "results.md"
    ).read_text(encoding="utf-8")
    assert "Failures" in (out / "index.html").read_text(encoding="utf-8")
    assert nmg(*words).code == 0
    assert {path.name for path in out.iterdir()} == FILES | {"first", "second"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--maskings", "random,randon"), "first: there is no masking 'randon'"),
        (("--baseline", "idf"), "--baseline idf: is not among the maskings of 'first'"),
        (("--policies", "odd=odd"), "--policies odd=odd: does not fit any model of the grid: "),
        (("--models", ","), "--models: name at least one model"),
        (("--models", "a/x,b/x"), "b/x: 'x' is also the name of a/x; write NAME=MODEL"),
        (("--models", "/nowhere/lm"), "first.lm: "),
        (("first.yaml",), "first.yaml: 'first' is also the name of "),
        (("FIRST=second.yaml",), "would share a folder"),
        (("--data.test", "null"), "first: data.test: a comparison needs a test set"),
        (("--out", "full"), "files that do not belong to a grid"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_refused_before_any_training(
    nmg: Nmg, files: list[Path], tmp_path: Path, words: tuple[str, ...], message: str
):
    (tmp_path / "full" / "trials").mkdir(parents=True)
    save_policy(tmp_path / "odd", hidden_size=24)
    before = sorted(tmp_path.rglob("*"))
    answer = nmg("compare", *files, "--out", "out", "--maskings", "none,random", "--seeds", "1", *words)
    assert answer.code == 2
    assert answer.out == ""
    (line,) = [line for line in answer.err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"


def test_a_single_comparison_may_have_a_baseline(nmg: Nmg, files: list[Path], tmp_path: Path):
    words = ("compare", files[0], "--out", "out", "--maskings", "none,random,idf", "--seeds", "1", "--baseline")
    answer = nmg(*words, "span")
    assert answer.code == 2
    assert "--baseline span: is not among the maskings; " in answer.err
    assert nmg(*words, "random").code == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["families"] == [{"metric": "accuracy", "n_planned": 2}]
    pairs = [(pair["first"], pair["second"]) for pair in results["results"][0]["pairs"]]
    assert pairs == [("none", "random"), ("idf", "random")]
