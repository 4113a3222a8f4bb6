"""Reading the folder of a run while it is being written."""

import json
from math import nan
from pathlib import Path

import numpy as np
import pytest

from nmg.errors import UserError
from nmg.runs.log import RunLog, read_run
from support.run_logs import PROBABILITIES, TEXTS, episode, snapshot, write_run


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


def test_an_experiment_that_ended_early_is_whole(tmp_path: Path):
    run = write_run(tmp_path / "run", episode(0), episode(1), planned=9)
    assert (read_run(run).planned_episodes, read_run(run).is_finished) == (9, False)
    (run / "effects.json").write_text('{"stage": "done"}')
    assert (read_run(run).planned_episodes, read_run(run).is_finished) == (2, True)


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
