"""Players at once, each in a process of its own: the very outcomes of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import loky.process_executor
import pytest
import torch

from nmg import training_run
from nmg.errors import UserError
from nmg.inner import players
from nmg.inner.players import InnerLoops, process_count
from nmg.meta_train import EpisodeRecord, MetaTraining
from nmg.reporter import Silent
from nmg.setup import prepare
from support.runs import Inputs, is_same


def new_training(inputs: Inputs, **runtime: Any) -> MetaTraining:
    return MetaTraining(prepare(inputs.config(runtime=runtime), Silent()))


def facts(record: EpisodeRecord) -> dict[str, Any]:
    return {name: value for name, value in record.to_json().items() if name != "seconds"}


def test_processes_give_the_outcome_of_one_process_to_the_bit(inputs: Inputs):
    """Three episodes, in the last two of which the opponent plays and each starts from the learner's last LM."""
    alone, at_once = new_training(inputs, player_processes=1), new_training(inputs, player_processes=3)
    assert (alone.inner_loops.processes, at_once.inner_loops.processes) == (1, 3)
    with at_once.inner_loops:
        for _ in range(3):
            first, second = alone.episode(), at_once.episode()
            assert facts(first) == facts(second)
            assert is_same(alone.lm_state, at_once.lm_state)
        assert set(second.scores) == {"learner", "opponent", "random"}
        assert (
            sum(second.seconds[phase] for phase in ("adapt", "finetune", "evaluate")) <= second.seconds["inner loops"]
        )
        children = workers(at_once.inner_loops)
        assert len(children) == 3
    assert is_same(alone.learner.policy, at_once.learner.policy)
    assert not any(is_running(child) for child in children), "they end with the run"


def workers(loops: InnerLoops) -> list[int]:
    assert loops._executor is not None
    return list(loops._executor._processes or {})


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "\nState:\tZ" not in status.read_text()


def memory_leak_limit() -> int:
    return int(loky.process_executor._MAX_MEMORY_LEAK_SIZE)


def test_a_process_that_keeps_memory_is_no_leak(inputs: Inputs):
    """loky would end it after 300 MB, in the midst of an episode."""
    training = new_training(inputs, player_processes=2)
    with training.inner_loops:
        assert training.inner_loops._processes().submit(memory_leak_limit).result() == 10**15


def play_until_it_fails(training: MetaTraining) -> None:
    """It may take a moment until a death is known."""
    for _ in range(100):
        training.episode()
        time.sleep(0.1)


def test_a_killed_process_is_a_clear_error_and_the_next_call_starts_anew(inputs: Inputs):
    training = new_training(inputs, player_processes=2)
    with training.inner_loops:
        training.episode()
        os.kill(workers(training.inner_loops)[0], signal.SIGKILL)
        with pytest.raises(UserError, match=r"Short of memory\? '--runtime.player_processes 1'"):
            play_until_it_fails(training)
        training.episode()


def test_a_run_ends_its_processes(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    closed = []

    def close(self: InnerLoops) -> None:
        closed.append(self)

    monkeypatch.setattr(InnerLoops, "close", close)
    training = training_run.start(inputs.config(), tmp_path / "run", Silent(), lambda _record, _episodes: None)
    assert closed == [training.inner_loops]


SCRIPT = """
from pathlib import Path
from nmg.config import load_config
from nmg.meta_train import MetaTraining
from nmg.reporter import Silent
from nmg.setup import prepare

print("once")
training = MetaTraining(prepare(load_config(Path("config.yaml")), Silent()))
print(training.inner_loops.processes, sorted(training.episode().scores))
"""


def test_a_script_needs_no_guard_and_ends(inputs: Inputs, tmp_path: Path):
    """multiprocessing's own processes would run it again, and it would start processes without end."""
    inputs.write_config(tmp_path / "config.yaml", runtime={"player_processes": 2})
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "once\n2 ['learner', 'random']\n"


def test_auto_is_one_process_a_player_for_a_small_model_on_several_cores(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
):
    training = new_training(inputs, threads=None)
    torch.set_num_threads(2)
    assert process_count(training.arena) == 3
    torch.set_num_threads(1)
    assert process_count(training.arena) == 1
    torch.set_num_threads(2)
    monkeypatch.setattr(players, "SMALL_MODEL", training.arena.model.num_parameters() - 1)
    assert process_count(training.arena) == 1


def test_there_are_no_more_processes_than_players(inputs: Inputs):
    assert new_training(inputs, player_processes=8).inner_loops.processes == 3
