"""Which engine plays, with how many processes."""

from typing import Any

import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.settings import RuntimeSettings
from nmg.config import load_config
from nmg.executors.processes import ProcessExecutor
from nmg.executors.registry import SMALL_MODEL, open_executor, process_count, require_single_process, visible_gpus
from nmg.executors.serial import SerialExecutor
from nmg.meta_training.loop import MetaTraining
from nmg.trials.session import Session
from support.runs import Inputs


def settings(**changes: Any) -> RuntimeSettings:
    return RuntimeSettings(device="cpu", **changes)


def new_training(inputs: Inputs, **runtime: Any) -> MetaTraining:
    return MetaTraining(Session.prepare(inputs.config(runtime=runtime), Silent()))


class Nowhere:
    """A workplace, and what would open one, where nothing is played."""

    def run(self, shared: Any, job: Any) -> Any:
        raise NotImplementedError

    def __call__(self, threads: int) -> "Nowhere":
        raise NotImplementedError


def test_auto_is_one_process_a_job_for_a_small_model_on_several_cores():
    torch.set_num_threads(2)
    assert process_count(settings(), 3, SMALL_MODEL) == 3
    assert process_count(settings(), 1, SMALL_MODEL) == 1
    assert process_count(settings(), 3, SMALL_MODEL + 1) == 1
    torch.set_num_threads(1)
    assert process_count(settings(), 3, SMALL_MODEL) == 1


def test_auto_is_one_process_where_another_device_trains(monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert process_count(RuntimeSettings(device="cuda"), 3, 1) == 1
    assert process_count(RuntimeSettings(device="auto"), 3, 1) == 1
    assert process_count(RuntimeSettings(device="cpu"), 3, 1) == 3


def test_auto_is_one_process_for_each_of_several_gpus(monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for device in ("cuda", "auto"):
        asked = RuntimeSettings(device=device)
        assert visible_gpus(asked) == ["0", "1", "2", "3"]
        assert process_count(asked, 16, 10**9) == 4
        assert process_count(asked, 3, 10**9) == 3
        assert process_count(RuntimeSettings(device=device, engine="ray"), 16, 10**9) == 4
        assert process_count(RuntimeSettings(device=device, processes=8), 16, 10**9) == 8
    assert visible_gpus(settings()) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus(RuntimeSettings()) == ["5", "7"]


def test_an_episode_has_a_process_a_player(inputs: Inputs):
    torch.set_num_threads(2)
    assert new_training(inputs, threads=None).engine.processes == 3


@pytest.mark.parametrize(("processes", "at_once", "expected"), [(8, 3, 3), (2, 3, 2), (1, 3, 1)])
def test_there_are_no_more_processes_than_jobs(processes: int, at_once: int, expected: int):
    assert process_count(settings(processes=processes), at_once, 1) == expected


def test_there_are_no_more_processes_than_players(inputs: Inputs):
    assert new_training(inputs, processes=8).engine.processes == 3


@pytest.mark.parametrize(
    ("engine", "processes", "kind", "opened"),
    [
        ("auto", "auto", ProcessExecutor, 3),
        ("auto", 2, ProcessExecutor, 2),
        ("auto", 1, SerialExecutor, 1),
        ("serial", 2, SerialExecutor, 1),
        ("processes", 1, ProcessExecutor, 1),
    ],
)
def test_the_engine_is_the_one_asked_for(engine: str, processes: Any, kind: type, opened: int):
    torch.set_num_threads(2)
    asked = settings(engine=engine, processes=processes)
    found = open_executor(asked, Nowhere(), Nowhere(), at_once=3, n_parameters=1)
    assert type(found) is kind
    assert found.processes == opened


def test_processes_that_train_together_play_all_jobs_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    engine = open_executor(settings(engine="processes", processes=2), Nowhere(), Nowhere(), at_once=3, n_parameters=1)
    assert type(engine) is SerialExecutor
    with pytest.raises(UserError, match=r"nmg audit cannot run under `accelerate launch`.*--engine ray"):
        require_single_process("audit")


def test_engines_have_short_names_on_the_command_line():
    config = load_config(None, ["--engine", "ray", "--ray-address=head:6379"])
    assert (config.runtime.engine, config.runtime.ray_address) == ("ray", "head:6379")
    with pytest.raises(UserError, match=r"^--runtime\.engine: .*'serial'"):
        load_config(None, ["--engine", "none"])
