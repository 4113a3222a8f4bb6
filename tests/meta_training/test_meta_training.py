"""Meta-training on disk: what is in the folder, and that an interrupted run ends as one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.config import Config, load_config
from nmg.meta_training import run as meta_training
from nmg.meta_training.checkpoint import load_checkpoint
from nmg.meta_training.loop import EpisodeRecord, MetaTraining
from nmg.policies.registry import load_policy
from nmg.trials.session import Session
from support.runs import Inputs, Notes, assert_same_run, is_same, players_of, read_log, resume_run


def ignore(_record: EpisodeRecord, _episodes: int) -> None:
    pass


def start(config: Config, out: Path) -> MetaTraining:
    return meta_training.start(config, out, Silent(), ignore)


def resume(out: Path, *overrides: str) -> MetaTraining:
    return resume_run(out, overrides, Silent(), ignore)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"learner": {"self_play": "frozen"}, "meta": {"continual": False}},
        {"meta": {"reset": True}, "learner": {"replay_capacity": 20, "replay_max_states": 12}},
    ],
    ids=["learning", "frozen", "small replay"],
)
def test_a_resumed_run_ends_as_an_uninterrupted_one(inputs: Inputs, tmp_path: Path, changes: dict[str, Any]):
    def config(episodes: int) -> Config:
        return inputs.config(**changes | {"meta": changes.get("meta", {}) | {"episodes": episodes}})

    whole = start(config(4), tmp_path / "whole")
    start(config(2), tmp_path / "parts")
    resumed = resume(tmp_path / "parts", "--meta.episodes", "4")
    assert_same_run(resumed, whole)
    log = read_log(tmp_path / "parts")
    assert log == read_log(tmp_path / "whole")
    assert [line["episode"] for line in log] == [1, 2, 3, 4]
    assert any("opponent" in line["scores"] for line in log)
    assert load_config(tmp_path / "parts" / "config.yaml") == load_config(tmp_path / "whole" / "config.yaml")
    assert is_same(load_policy(tmp_path / "parts" / "policy"), load_policy(tmp_path / "whole" / "policy"))


def test_a_random_search_resumes_as_well(inputs: Inputs, tmp_path: Path):
    def config(episodes: int) -> Config:
        sections = inputs.sections(meta={"continual": False, "episodes": episodes})
        learner = {"kind": "random-search", "candidates": 3}
        return Config.model_validate(sections | {"policy": {"kind": "linear"}, "learner": learner})

    whole = start(config(4), tmp_path / "whole")
    start(config(2), tmp_path / "parts")
    resumed = resume(tmp_path / "parts", "--meta.episodes", "4")
    assert is_same(resumed.learner.policy, whole.learner.policy)
    assert is_same(load_policy(tmp_path / "parts" / "policy"), whole.learner.policy)
    log = read_log(tmp_path / "parts")
    assert log == read_log(tmp_path / "whole")
    assert [set(line["scores"]) for line in log] == [{"candidate-0", "candidate-1", "candidate-2"}] * 4
    assert not (tmp_path / "parts" / "replay").exists()


def test_learning_moves_the_policies(inputs: Inputs, tmp_path: Path):
    """Or equality of runs would say little."""
    first = MetaTraining(Session.prepare(inputs.config(), Silent()))
    trained = start(inputs.config(), tmp_path / "run")
    for ours, theirs in players_of(first, trained):
        assert not is_same(ours.policy, theirs.policy)
    assert not is_same(first.lm_state, trained.lm_state)


def test_a_run_killed_in_an_episode_goes_on(inputs: Inputs, tmp_path: Path):
    config = inputs.write_config(tmp_path / "config.yaml", meta={"episodes": 30})
    out, log = tmp_path / "killed", tmp_path / "killed" / "metrics.jsonl"
    command = [sys.executable, "-c", "from nmg.cli import main; main()", "learn", str(config), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        deadline = time.monotonic() + 120
        while not log.is_file() or log.read_bytes().count(b"\n") < 2:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = log.read_bytes().count(b"\n")
    assert 2 <= done < 30
    with log.open("a") as file:  # as if the blow had come while a line was written
        file.write('{"episode": 99, "sco')

    episodes = done + 2
    resumed = resume(out, f"--meta.episodes={episodes}")
    whole = start(inputs.config(meta={"episodes": episodes}), tmp_path / "whole")
    assert_same_run(resumed, whole)
    log_lines = read_log(out)
    assert [line["episode"] for line in log_lines] == list(range(1, episodes + 1))
    assert log_lines == read_log(tmp_path / "whole")


def test_a_run_interrupted_before_its_first_checkpoint_starts_anew(inputs: Inputs, tmp_path: Path):
    config = inputs.config(meta={"episodes": 2})
    whole = start(config, tmp_path / "whole")
    inputs_of = json.loads((tmp_path / "whole" / "run.json").read_text())["inputs"]
    meta_training.describe_run(tmp_path / "run", whole, inputs_of)
    (tmp_path / "run" / "metrics.jsonl").write_text('{"episode": 1}\n')
    assert_same_run(resume(tmp_path / "run"), whole)
    assert read_log(tmp_path / "run") == read_log(tmp_path / "whole")


def test_an_ended_run_resumes_to_itself(inputs: Inputs, tmp_path: Path):
    ended = start(inputs.config(meta={"episodes": 2}), tmp_path / "run")
    log = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert_same_run(resume(tmp_path / "run"), ended)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == log


def test_what_a_run_leaves(inputs: Inputs, tmp_path: Path):
    out = tmp_path / "run"
    config = inputs.config(meta={"episodes": 4, "checkpoint_every": 2})
    seen: list[tuple[int, int]] = []
    training = meta_training.start(config, out, Silent(), lambda record, n: seen.append((record.episode, n)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert load_config(out / "config.yaml") == config
    facts = json.loads((out / "run.json").read_text())
    assert facts["settings_digest"] == config.digest
    assert facts["seed"] == 0
    assert (facts["device"], facts["precision"]) == ("cpu", "fp32")
    assert facts["versions"]["torch"] == torch.__version__
    policy = load_policy(out / "policy")
    assert is_same(policy, training.learner.policy)
    assert policy.config.base_model == str(inputs.model)
    assert policy.config.masking_rate == 0.3
    folders = {path.name for path in (out / "checkpoints").iterdir()}
    assert folders == {"episode-00003", "episode-00004", "kept-00002", "kept-00004"}
    kept = {path.name for path in (out / "checkpoints" / "kept-00002").iterdir()}
    assert kept == {"facts.json", "learner-policy.safetensors", "lm.safetensors", "SHA256SUMS"}
    assert {path.name for path in (out / "policy").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert not [path for path in out.rglob("*") if path.suffix == ".tmp" or path.name.startswith(".")]
    for line in read_log(out, seconds=True):
        assert {"masks", "inner loops", "update"} <= set(line["seconds"])


def test_states_no_transition_refers_to_are_dropped(inputs: Inputs, tmp_path: Path):
    """By neither of the two checkpoints that are held."""
    training = start(inputs.config(meta={"episodes": 5}, learner={"replay_max_states": 16}), tmp_path / "run")
    wanted = {key for player in (training.learner.learner, training.learner.opponent) for key in player.replay.shards}
    names = {path.stem for path in (tmp_path / "run" / "replay").glob("*.safetensors")}
    last, before = (
        json.loads((tmp_path / "run" / "checkpoints" / f"episode-0000{n}" / "facts.json").read_text())["immutable"]
        for n in (5, 4)
    )
    assert last == [f"episode-{key:05d}" for key in sorted(wanted)]
    assert names == {*last, *before}
    assert 0 < len(wanted) < len(names) < 5


def test_leftovers_of_an_interrupted_write_are_ignored(inputs: Inputs, tmp_path: Path):
    out = tmp_path / "run"
    start(inputs.config(meta={"episodes": 2}), out)
    whole = start(inputs.config(meta={"episodes": 3}), tmp_path / "whole")
    half = out / "checkpoints" / "episode-00003.tmp"
    half.mkdir()
    (half / "learner-policy.safetensors").write_bytes(b"half")
    for leftover in ("policy/.model.0a1b.safetensors", "replay/.episode-00002.0a1b.safetensors"):
        (out / leftover).write_bytes(b"half")
    saved = load_checkpoint(out)
    assert saved is not None
    assert saved.facts["next_episode"] == 2
    assert_same_run(resume(out, "--meta.episodes=3"), whole)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["episode-00002", "episode-00003"]
    assert is_same(load_policy(out / "policy"), whole.learner.policy)


def test_other_settings_are_refused_on_resuming(inputs: Inputs, tmp_path: Path):
    out = tmp_path / "run"
    start(inputs.config(meta={"episodes": 1}), out)
    before = (out / "config.yaml").read_text()
    for override in ("--masking.rate=0.2", "--run.seed=1", "--meta.contexts=4"):
        with pytest.raises(UserError, match=r"only meta\.episodes and runtime settings"):
            resume(out, override)
    assert (out / "config.yaml").read_text() == before
    assert len(read_log(out)) == 1
    resume(out, "--runtime.evaluation_batch_size=8", "--meta.episodes=2")
    assert len(read_log(out)) == 2


@pytest.mark.parametrize("content", [None, "{}", '{"inputs": null}'])
def test_a_run_that_does_not_say_what_it_began_with_is_not_resumed(inputs: Inputs, tmp_path: Path, content: str | None):
    out = tmp_path / "run"
    start(inputs.config(meta={"episodes": 1}), out)
    (out / "run.json").unlink()
    if content is not None:
        (out / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json, field 'inputs': .*start a new run"):
        resume(out, "--meta.episodes=2")
    assert len(read_log(out)) == 1


def test_there_must_be_a_run_to_resume(tmp_path: Path):
    with pytest.raises(UserError, match="contains no run"):
        resume(tmp_path)
    with pytest.raises(UserError, match="contains no run"):
        resume(tmp_path / "nowhere")


def test_a_folder_that_holds_something_is_refused(inputs: Inputs, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="--resume"):
        start(inputs.config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="is a file"):
        start(inputs.config(), tmp_path / "mine.txt")


@pytest.mark.parametrize(("ties", "warnings"), [([1, 1, 0, 1, 1, 0], 0), ([0, 1, 1, 1, 1, 0], 1)])
def test_three_ties_in_a_row_bring_a_warning(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ties: list[int], warnings: int
):
    original = MetaTraining.round

    def tied(self: MetaTraining) -> list[EpisodeRecord]:
        return [replace(record, is_tie=bool(ties[record.episode - 1])) for record in original(self)]

    monkeypatch.setattr(MetaTraining, "round", tied)
    notes = Notes()
    meta_training.start(inputs.config(meta={"episodes": 6}), tmp_path / "run", notes, ignore)
    said = [line for line in notes.lines if "equal scores for 3 episodes" in line]
    assert len(said) == warnings
