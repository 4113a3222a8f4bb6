"""Reading the folder of a run while it is being written."""

import json
from math import nan
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.config import Config
from nmg.learners.registry import LearnerSettings
from nmg.meta_training import run as meta_training
from nmg.meta_training.log import RunLog, read_run
from nmg.meta_training.loop import EpisodeRecord
from support.run_logs import PROBABILITIES, TEXTS, episode, snapshot, write_facts, write_run
from support.runs import Inputs


def test_a_line_that_is_being_written_does_not_count(tmp_path: Path):
    run = write_run(tmp_path / "run", episode(0), episode(1))
    assert len(read_run(run).episodes) == 2
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(episode(2))[:40])
    assert len(read_run(run).episodes) == 2
    (run / "metrics.jsonl").write_text(json.dumps(episode(0)))
    assert len(read_run(run).episodes) == 0, "without its line break a line may go on"


def test_a_damaged_line_is_named(tmp_path: Path):
    run = write_run(tmp_path / "run", episode(0), episode(1))
    (run / "metrics.jsonl").write_text('{"episode": 0\n' + json.dumps(episode(1)) + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1: is not valid JSON"):
        read_run(run)


def test_the_run_says_how_long_it_is_and_whether_it_is_finished(tmp_path: Path):
    """What the learner has found or its settings ask for decides nothing: only the run knows its learner."""
    run = write_run(tmp_path / "run", episode(0), episode(1), planned=9)
    (run / "effects.json").write_text('{"stage": "done"}')
    assert (read_run(run).planned_episodes, read_run(run).is_finished) == (9, False)
    write_facts(run, [episode(0), episode(1)], planned=2)
    assert (read_run(run).planned_episodes, read_run(run).is_finished) == (2, True)


LEARNERS: dict[str, dict[str, Any]] = {
    "actor-critic": {},
    "evolution": {"candidates": 4},
    "experiment": {"budget": 20},
    "random-search": {"candidates": 2},
    "rule-search": {"budget": 7, "exponents": [0, 1, 2]},
}
"""kind → settings that make a run short"""


def test_no_kind_of_learner_is_left_out():
    kinds = get_args(get_args(LearnerSettings)[0])
    assert {kind.model_fields["kind"].default for kind in kinds} == set(LEARNERS)


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_log_knows_whether_its_run_is_finished(inputs: Inputs, tmp_path: Path, kind: str):
    """Before and after each episode, and at the end."""
    sections = inputs.sections(meta={"continual": False, "episodes": 40 if "plays" in LEARNERS[kind] else 2})
    sections |= {
        "policy": {"kind": "linear", "features": ["idf", "digit"]},
        "learner": {"kind": kind, **LEARNERS[kind]},
    }
    out, seen = tmp_path / "run", []

    def on_episode(_record: EpisodeRecord, planned: int) -> None:
        log = read_run(out)
        assert log.planned_episodes >= planned
        assert not log.is_finished
        seen.append(log.planned_episodes)

    training = meta_training.start(Config.model_validate(sections), out, Silent(), on_episode)
    log = read_run(out)
    assert (log.is_finished, log.planned_episodes) == (training.is_finished, training.planned_episodes)
    assert log.is_finished
    assert len(log.episodes) == len(seen) == log.planned_episodes <= seen[0] < 40


def test_what_a_folder_says(tmp_path: Path):
    run = write_run(tmp_path / "run", episode(0), planned=3, snapshots=[snapshot(0, PROBABILITIES)])
    log = read_run(run)
    assert (log.name, log.config.meta.episodes, log.facts["device"]) == ("run", 3, "cpu")
    assert log.texts == TEXTS
    assert [shot["episodes"] for shot in log.snapshots] == [0]
    assert not log.is_finished
    assert log.series("scores", "learner", "accuracy") == [0.5]
    np.testing.assert_equal(log.series("opponent_update", "entropy"), [nan])
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.yaml").write_text("meta: {episodes: 3}\n")
    assert read_run(bare) == RunLog("bare", log.config, episodes=[], snapshots=[])
