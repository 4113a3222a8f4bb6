"""Whole runs of an experiment on disk: what they leave, that they resume, and that what they hand out is used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmg.base.progress import Silent
from nmg.config import Config, load_config
from nmg.meta_training import run as meta_training
from nmg.meta_training.loop import EpisodeRecord, MetaTraining
from nmg.policies.linear import LinearPolicy, LinearSettings
from nmg.policies.registry import load_policy
from nmg.policies.storage import selected_by
from support.command import Nmg
from support.runs import Inputs, is_same, read_log, resume_run

PLAYS = 24
EXPLORED = 4
"""pairs; then an episode of seven players, and two of three or four players for the gate"""
REWARDS: dict[str, dict[str, Any]] = {
    "finetune": {"metric": "loss", "evaluation": "finetune", "num_replicates": 2},
    "probe": {"metric": "loss", "evaluation": "linear-probe"},
}


def config(inputs: Inputs, reward: str, episodes: int = 100, **learner: Any) -> Config:
    sections = inputs.sections(meta={"continual": False, "episodes": episodes})
    sections["learner"] = {"kind": "experiment", "budget": PLAYS, **learner}
    return Config.model_validate(sections | {"policy": {"kind": "linear"}, "reward": REWARDS[reward]})


def ignore(_record: EpisodeRecord, _episodes: int) -> None:
    pass


def start(config: Config, out: Path) -> MetaTraining:
    return meta_training.start(config, out, Silent(), ignore)


@pytest.fixture(scope="module", params=list(REWARDS))
def reward(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def whole(reward: str, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[MetaTraining, Path]:
    out = tmp_path_factory.mktemp(reward) / "run"
    return start(config(inputs, reward), out), out


def test_a_run_ends_when_its_plays_are_spent(whole: tuple[MetaTraining, Path]):
    training, out = whole
    log = read_log(out, seconds=True)
    assert training.learner.is_finished
    assert training.planned_episodes == len(log) < 100
    players = 4 if training.learner.state.rule else 3
    n_gate = (PLAYS - 15) // players
    assert [line["stage"] for line in log] == ["explore"] * EXPLORED + ["tune"] + ["gate"] * n_gate
    assert [len(line["scores"]) for line in log] == [2] * EXPLORED + [7] + [players] * n_gate
    assert [line["trials"] for line in log] == [2, 4, 6, 8, 15, *(15 + players * (n + 1) for n in range(n_gate))]
    for line in log[EXPLORED + 1 :]:
        assert line["lm_loss"]["none"] is None, "no step is made without adaptation"
        assert line["lm_loss"]["policy"] > 0
        assert line["scores"]["none"]["loss"] > 0
    for line in log[:EXPLORED]:
        losses = {name: scores["loss"] for name, scores in line["scores"].items()}
        assert line["difference"] == losses["minus"] - losses["plus"], "more is better"
    assert any(line["difference"] for line in log[:EXPLORED])
    assert all("difference" not in line for line in log[EXPLORED:])
    assert all(value >= 0 for line in log for value in line["seconds"].values())


def test_what_a_run_leaves(whole: tuple[MetaTraining, Path]):
    training, out = whole
    names = {path.name for path in out.iterdir()}
    assert {"policy", "learned", "rule", "placebo", "effects.json", "metrics.jsonl", "samples.jsonl"} <= names
    told = json.loads((out / "effects.json").read_text())
    assert told == training.learner.findings()
    assert told["stage"] == "done"
    assert [one["feature"] for one in told["features"]] == list(LinearSettings().features)
    players = 4 if told["rule"] else 3
    n_gate = (PLAYS - 15) // players
    assert told["gate"]["n"] == n_gate
    assert told["trials"] == 15 + players * n_gate
    assert told["pairs"] == EXPLORED + 6 + (players - 2) * n_gate
    assert told["selected"] in {"policy", "rule", "random", "none"}
    for name in ("learned", "rule", "placebo"):
        policy = load_policy(out / name)
        assert isinstance(policy, LinearPolicy)
        assert np.isfinite(policy.weights.detach().numpy()).all()
    assert (out / "policy").exists() is (told["selected"] != "none")


@pytest.fixture(scope="module")
def ended(whole: tuple[MetaTraining, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A copy of the run as if its gate had selected the given masking."""

    def copy(selected: str) -> Path:
        out = tmp_path_factory.mktemp(selected) / "run"
        shutil.copytree(whole[1], out)
        learner = whole[0].learner
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(learner.state, "selected", selected)
            meta_training._publish(whole[0], out)
        return out

    return copy


@pytest.mark.parametrize(("selected", "folder"), [("policy", "learned"), ("rule", "rule"), ("random", None)])
def test_the_folder_policy_holds_what_was_selected(ended: Callable[[str], Path], selected: str, folder: str | None):
    out = ended(selected)
    assert json.loads((out / "effects.json").read_text())["selected"] == selected
    if folder is None:
        assert not load_policy(out).weights.detach().numpy().any(), "random masks"
    else:
        assert is_same(load_policy(out), load_policy(out / folder))


def test_a_run_that_selected_no_adaptation_is_refused(
    ended: Callable[[str], Path], nmg: Nmg, inputs: Inputs, tmp_path: Path
):
    """By every command that would use its policy, before any work; what it learned can still be named."""
    out = ended("none")
    assert not (out / "policy").exists()
    assert selected_by(out) == "none"
    settings = inputs.write_config(tmp_path / "config.yaml")
    adapting = ("adapt", "--config", settings, "--corpus", inputs.train, "--out", tmp_path / "adapted")
    for masking in (out, out / "policy"):
        answer = nmg(*adapting, "--masking", masking)
        assert answer.code == 2
        assert f"{out} selected no adaptation: in its gate no masks scored better than the model as it is" in answer.err
        assert str(out / "learned") in answer.err
    assert not (tmp_path / "adapted").exists()
    answer = nmg("compare", settings, "--policies", f"learned={out}", "--seeds", "1", "--out", tmp_path / "compared")
    assert answer.code == 2
    assert "selected no adaptation" in answer.err
    assert isinstance(load_policy(out / "learned"), LinearPolicy)


@pytest.mark.parametrize("pause", [EXPLORED, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, EXPLORED + 2))])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    whole: tuple[MetaTraining, Path], reward: str, pause: int, inputs: Inputs, tmp_path: Path
):
    out = tmp_path / "parts"
    start(config(inputs, reward, episodes=pause), out)
    assert json.loads((out / "effects.json").read_text())["trials"] == read_log(out)[-1]["trials"]
    resumed = resume_run(out, ["--meta.episodes=100"], Silent(), ignore)
    assert resumed.learner.state == whole[0].learner.state
    assert read_log(out) == read_log(whole[1])
    assert (out / "effects.json").read_bytes() == (whole[1] / "effects.json").read_bytes()
    for name in ("learned", "rule", "placebo"):
        assert is_same(load_policy(out / name), load_policy(whole[1] / name))
    assert (out / "policy").exists() == (whole[1] / "policy").exists()


def test_an_ended_run_resumes_to_itself(whole: tuple[MetaTraining, Path], tmp_path: Path):
    shutil.copytree(whole[1], tmp_path / "run")
    again = resume_run(tmp_path / "run", [], Silent(), ignore)
    assert again.learner.state == whole[0].learner.state
    assert (tmp_path / "run" / "effects.json").read_bytes() == (whole[1] / "effects.json").read_bytes()
    assert read_log(tmp_path / "run") == read_log(whole[1])


def test_a_run_that_cannot_gain_enough_hands_out_a_rule(inputs: Inputs, tmp_path: Path):
    settings = config(inputs, "probe", min_effect=100.0)
    policy = LinearSettings(features=("idf", "digit"))  # of more, six pairs tell nothing
    training = start(settings.model_copy(update={"policy": policy}), tmp_path / "run")
    told = json.loads((tmp_path / "run" / "effects.json").read_text())
    assert told["gate"] == {"n": 0, "level": 0.05, "against": {}, "passes": False}
    assert told["possible_gain"] < 100
    assert set(told["tuned"]) == {"random", "idf-2", "idf-5", "idf-10"}
    assert told["selected"] == ("rule" if told["rule"] else "random")
    assert is_same(load_policy(tmp_path / "run"), load_policy(tmp_path / "run" / "rule"))
    assert {line["stage"] for line in read_log(tmp_path / "run")} == {"explore", "tune"}
    assert training.learner.state.trials < PLAYS


def test_what_was_learned_is_used(ended: Callable[[str], Path], nmg: Nmg, inputs: Inputs, tmp_path: Path):
    """By adapt, by compare with its control, and on a page."""
    sections = {name: {"batch_size": 20} for name in ("adapt", "finetune")}
    settings = inputs.write_config(tmp_path / "config.yaml", **sections)
    out = ended("policy")
    for folder in (out, out / "learned"):
        words = ("--config", settings, "--corpus", inputs.train, "--masking", folder)
        answer = nmg("adapt", *words, "--out", tmp_path / folder.name)
        assert answer.code == 0, answer.err
        assert (tmp_path / folder.name / "model.safetensors").is_file()

    words = ("--maskings", "random,placebo", "--seeds", "1", "--out", "compared")
    answer = nmg("compare", settings, "--policies", f"learned={out}", *words)
    assert answer.code == 0, answer.err
    cells = json.loads((tmp_path / "compared" / "results.json").read_text())["cells"]
    assert len(cells) == 3

    answer = nmg("report", out, "--out", tmp_path / "page.html")
    assert answer.code == 0, answer.err
    assert "finished" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_a_run_with_factors_leaves_its_recipe_and_resumes(inputs: Inputs, nmg: Nmg, tmp_path: Path):
    factors = {"factors": ("learning-rate", "steps", "rate"), "budget": 36}
    whole = start(config(inputs, "probe", **factors), tmp_path / "whole")
    out = tmp_path / "parts"
    start(config(inputs, "probe", episodes=9, **factors), out)
    resumed = resume_run(out, ["--meta.episodes=100"], Silent(), ignore)
    assert resumed.learner.state == whole.learner.state
    assert read_log(out) == read_log(tmp_path / "whole")
    assert {name for line in read_log(out) for name in line["recipes"]} >= {"plus", "minus", "recipe-0.5", "recipe-1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole.learner.state, "selected", "policy")
        patch.setattr(whole.learner.state, "share", 1.0)
        meta_training._publish(whole, out)
    recipe = load_policy(out).config.recipe
    assert recipe is not None
    assert load_config(out / "recommended.yaml") == whole.config.with_recipe(recipe)
    answer = nmg("report", out, "--out", tmp_path / "page.html")
    assert answer.code == 0, answer.err
    assert "Which recipe raises the score" in (tmp_path / "page.html").read_text()
