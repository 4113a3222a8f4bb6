"""`nmg compare` as a user calls it."""

import json
from pathlib import Path

import pytest

from support.command import Nmg
from support.runs import Inputs
from support.trials import break_trial

from .helpers import written


@pytest.fixture
def config(inputs: Inputs, tmp_path: Path) -> Path:
    sections = {name: {"batch_size": 20} for name in ("adapt", "finetune")}
    return inputs.write_config(tmp_path / "config.yaml", **sections)


FILES = {"trials.jsonl", "results.json", "results.md", "results.csv", "results.tex", "index.html"}


def test_a_comparison_with_a_policy_and_more_seeds_later(nmg: Nmg, config: Path, tmp_path: Path):
    trained = nmg("learn", config, "--out", "run", "--meta.episodes", "1")
    assert trained.code == 0, trained.err
    assert "policy: run/policy" in trained.out
    verdict, why, command = trained.out.splitlines()[-3:]
    assert verdict == "Verdict: The learned policy is in run/policy."
    assert why.startswith("Why: Against the random player the learner won")
    assert command == "Next: nmg compare run/config.yaml --policy run --out comparison"
    words = ("compare", config, "--maskings", "none,random", "--policies", "learned=run", "--out", "out")
    answer = nmg(*words, "--seeds", "1")
    assert answer.code == 0, answer.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert "One seed cannot separate differences from chance" in answer.out
    assert "learned.seed-0" in answer.err
    assert "trial 3/3" in answer.err

    answer = nmg(*words, "--seeds", "2")
    assert answer.code == 0, answer.err
    assert "3 trials are finished, 3 are missing" in answer.err
    assert "random.seed-0" not in answer.err
    assert "learned − random" in answer.out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["cells"]) == 6
    cost = results["parts"][0]["meta_training"]["learned"]
    assert cost["adaptations"] == 2
    assert cost["seconds_an_adaptation"] == pytest.approx(cost["seconds"] / 2)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "learned − random" in page
    assert ">learning<" in page


def test_learning_curves(nmg: Nmg, config: Path, tmp_path: Path):
    words = ("--maskings", "none,random", "--seeds", "2", "--shots", "1,all", "--adapt-steps", "1,2")
    answer = nmg("compare", config, "--out", "out", *words)
    assert answer.code == 0, answer.err
    assert len(written(tmp_path / "out")) == 2 * (2 + 4)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Learning curves" in page
    assert "by number of adaptation steps" in page


def test_a_failed_cell_shows_and_the_exit_code_says_so(
    nmg: Nmg, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        break_trial(patch, "random", 0, RuntimeError("out of memory"))
        answer = nmg("compare", config, "--out", "out", "--maskings", "none,random", "--seeds", "1")
    assert answer.code == 1
    assert "failed: random.seed-0: RuntimeError: out of memory (out/errors/random.seed-0.txt)" in answer.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"errors"}
    assert ">Failures</h2>" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert nmg("compare", config, "--out", "out", "--maskings", "none,random", "--seeds", "1").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--maskings", "random,randon"), "did you mean 'random'"),
        (("--maskings", "learned"), "--policies"),
        (("--maskings", "neural"), "--maskings learned: name the trained policy"),
        (("--maskings", "neural", "--policies", "neural=nowhere"), "nowhere is not the folder of a mask policy"),
        (("--maskings", ","), "at least one"),
        (("--policies", "nowhere"), "nowhere is not the folder of a mask policy"),
        (("--policies", "random=run"), "the name of a masking"),
        (("--shots", "few"), "--shots: 'few'"),
        (("--adapt-steps", "0"), "--adapt-steps: '0'"),
        (("--data.test", "null"), "test set"),
        (("--masking.rat", "0.1"), "did you mean '--masking.rate'"),
        (("--out", "full"), "files that do not belong to a comparison"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_refused(nmg: Nmg, config: Path, tmp_path: Path, words: tuple[str, ...], message: str):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    answer = nmg("compare", config, "--out", "out", "--seeds", "1", *words)
    assert answer.code == 2
    assert answer.out == ""
    (line,) = [line for line in answer.err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"


def test_another_setting_needs_another_folder(nmg: Nmg, config: Path):
    words = ("compare", config, "--out", "out", "--maskings", "none", "--seeds", "1")
    assert nmg(*words).code == 0
    answer = nmg(*words, "--finetune.epochs", "2")
    assert answer.code == 2
    assert "(none.seed-0) was made with other settings; choose another --out" in answer.err
