"""Players at once, each in a process of its own: the very outcomes of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import loky.process_executor
import pytest

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.executors.processes import ProcessExecutor
from nmg.executors.serial import SerialExecutor
from nmg.meta_training import run as meta_training
from nmg.meta_training.loop import MetaTraining
from nmg.trials.session import Session
from support.runs import Inputs, is_same, record_facts


def new_training(inputs: Inputs, **runtime: Any) -> MetaTraining:
    return MetaTraining(Session.prepare(inputs.config(runtime=runtime), Silent()))


def test_processes_give_the_outcome_of_one_process_to_the_bit(inputs: Inputs):
    """Three episodes, in the last two of which the opponent plays and each starts from the learner's last LM."""
    alone, at_once = new_training(inputs, processes=1), new_training(inputs, processes=3)
    assert (alone.engine.processes, at_once.engine.processes) == (1, 3)
    with at_once.engine:
        for _ in range(3):
            first, second = alone.episode(), at_once.episode()
            assert record_facts(first) == record_facts(second)
            assert is_same(alone.lm_state, at_once.lm_state)
        assert set(second.scores) == {"learner", "opponent", "random"}
        inner = sum(second.seconds[phase] for phase in ("adapt", "finetune", "evaluate"))
        assert inner <= second.seconds["inner loops"] * (1 + 1e-9), "their share of it, but for rounding"
        children = workers(at_once.engine)
        assert len(children) == 3
    assert is_same(alone.learner.policy, at_once.learner.policy)
    assert not any(is_running(child) for child in children), "they end with the run"


def workers(engine: ProcessExecutor) -> list[int]:
    assert engine._executor is not None
    return list(engine._executor._processes or {})


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "\nState:\tZ" not in status.read_text()


def memory_leak_limit() -> int:
    return int(loky.process_executor._MAX_MEMORY_LEAK_SIZE)


def test_a_process_that_keeps_memory_is_no_leak(inputs: Inputs):
    """loky would end it after 300 MB, in the midst of an episode."""
    training = new_training(inputs, processes=2)
    with training.engine:
        assert training.engine._start().submit(memory_leak_limit).result() == 10**15


def sent_file(engine: ProcessExecutor) -> Path:
    """Of the first part of what the last call shared."""
    return engine._sent._sent[0][1]


class Shared(NamedTuple):
    weights: list[int]
    steps: int


class Echo:
    """A workplace that says what is shared, and which object the weights are in its process."""

    def __call__(self, threads: int) -> "Echo":
        return self

    def run(self, shared: Shared, job: int) -> tuple[int, list[int], int, int]:
        return job, shared.weights, shared.steps, id(shared.weights)


def test_what_is_shared_is_sent_once_for_as_long_as_it_is_the_same():
    engine, weights = ProcessExecutor(Echo(), 1), [1, 2, 3]
    with engine:
        first = dict(engine.map_unordered(Shared(weights, 10), [7, 8]))
        file = sent_file(engine)
        assert [first[i][:3] for i in (0, 1)] == [(7, [1, 2, 3], 10), (8, [1, 2, 3], 10)]
        second = dict(engine.map_unordered(Shared(weights, 11), [9]))
        assert second[0] == (9, [1, 2, 3], 11, first[0][3]), "read once, and the steps are new"
        assert sent_file(engine) == file
        third = dict(engine.map_unordered(Shared([4], 11), [9]))
        assert third[0][:3] == (9, [4], 11)
        assert not file.exists()
        left = sent_file(engine)
        assert left.exists()
    assert not left.exists()
    assert not left.parent.exists()


class WhichGpu:
    """A workplace that says which GPUs its process sees. Its jobs wait for each other, so each has a process."""

    def __call__(self, threads: int) -> "WhichGpu":
        return self

    def run(self, shared: Path, job: int) -> tuple[int, str | None]:
        (shared / f"{job}").touch()
        while len(list(shared.iterdir())) < 4:
            time.sleep(0.05)
        return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("gpus", "expected"), [(["2", "5"], ["2", "2", "5", "5"]), pytest.param(["7"], ["7"] * 4, marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_processes_spread_over_the_gpus(tmp_path: Path, gpus: list[str], expected: list[str]):
    """All took the first one, and the others had nothing to do."""
    with ProcessExecutor(WhichGpu(), 4, gpus) as engine:
        found = dict(engine.map_unordered(tmp_path, range(4)))
    assert len({process for process, _ in found.values()}) == 4
    assert sorted(str(gpu) for _, gpu in found.values()) == expected


def play_until_it_fails(training: MetaTraining) -> None:
    """It may take a moment until a death is known."""
    for _ in range(100):
        training.episode()
        time.sleep(0.1)


def test_a_killed_process_is_a_clear_error_and_the_next_call_starts_anew(inputs: Inputs):
    training = new_training(inputs, processes=2)
    with training.engine:
        training.episode()
        os.kill(workers(training.engine)[0], signal.SIGKILL)
        with pytest.raises(UserError, match=r"ran out of memory\. Set --runtime\.processes 1"):
            play_until_it_fails(training)
        training.episode()


def test_a_run_ends_its_processes(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    closed = []

    def close(self: SerialExecutor) -> None:
        closed.append(self)

    monkeypatch.setattr(SerialExecutor, "close", close)
    training = meta_training.start(inputs.config(), tmp_path / "run", Silent(), lambda _record, _episodes: None)
    assert closed == [training.engine]


SCRIPT = """
from pathlib import Path
from nmg.config import load_config
from nmg.meta_training.loop import MetaTraining
from nmg.base.progress import Silent
from nmg.trials.session import Session

print("once")
training = MetaTraining(Session.prepare(load_config(Path("config.yaml")), Silent()))
print(training.engine.processes, sorted(training.episode().scores))
"""


@pytest.mark.slow
def test_a_script_needs_no_guard_and_ends(inputs: Inputs, tmp_path: Path):
    """multiprocessing's own processes would run it again, and it would start processes without end."""
    inputs.write_config(tmp_path / "config.yaml", runtime={"processes": 2})
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "once\n2 ['learner', 'random']\n"


PLACES = """
import time

class Slow:
    def __init__(self, opening):
        self.opening = opening

    def __call__(self, threads):
        time.sleep(self.opening)
        return self

    def run(self, shared, job):
        return time.sleep(job)
"""
ORPHANS = """
import sys, time
from nmg.executors.processes import ProcessExecutor
from places import Slow

state = sys.argv[1]
engine = ProcessExecutor(Slow(60 if state == "opening" else 0), 2)
if state == "idle":
    list(engine.map_unordered("what the jobs share", [0, 0, 0, 0]))
else:
    futures = [engine._start().submit(time.sleep, 60) for _ in range(2)]
print(*engine._start()._processes, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "at work", "opening"])
def test_no_process_outlives_a_parent_that_was_killed(tmp_path: Path, state: str):
    """Three of 2 GB once stayed for five minutes."""
    (tmp_path / "places.py").write_text(PLACES)
    (tmp_path / "script.py").write_text(ORPHANS)
    (tmp_path / "files").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "files")}
    parent = subprocess.Popen(
        [sys.executable, "script.py", state], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    children = [int(word) for word in parent.stdout.readline().split()]
    assert len(children) == 2
    time.sleep(1.0)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list((tmp_path / "files").glob("nmg-*"))
