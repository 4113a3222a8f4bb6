"""Jobs on a Ray cluster: the very results of one process, also where a worker is killed in their midst."""

import gc
import importlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.settings import RuntimeSettings
from nmg.executors import cluster
from nmg.executors.cluster import RayExecutor, connect
from nmg.executors.registry import open_executor
from nmg.meta_training.loop import MetaTraining
from nmg.training import runtime
from nmg.trials.session import Session
from support.command import Nmg
from support.runs import Inputs, is_same

ray = pytest.importorskip("ray", reason="needs the extra `ray`")


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """One for all tests here; an engine joins the one that is there."""
    try:
        connect(None, n_threads=2)
    except Exception as error:
        pytest.skip(f"Ray does not start here, or too slowly: {error}")
    yield
    ray.shutdown()


class Shared(NamedTuple):
    number: int
    weights: list[int]


@dataclass(frozen=True)
class Shop:
    """A workplace whose job may be to be killed, `times` times."""

    folder: Path

    def __call__(self, threads: int) -> "Shop":
        return self

    def run(self, shared: Shared, job: tuple[int, int]) -> tuple[int, int]:
        number, times = job
        (self.folder / f"{number}-{os.getpid()}").touch()
        if number < 0:
            raise UserError(f"no job has the number {number}")
        if len(list(self.folder.glob(f"{number}-*"))) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return number, shared.number + sum(shared.weights) + number


def test_a_killed_worker_is_started_again_and_the_result_is_the_same(tmp_path: Path):
    with RayExecutor(Shop(tmp_path), 2) as engine:
        results = dict(engine.map_unordered(Shared(1, [2, 3]), [(10, 0), (20, 1), (30, 0)]))
        assert results == {0: (10, 16), 1: (20, 26), 2: (30, 36)}
        assert len(list(tmp_path.glob("20-*"))) == 2, "it was played twice"


def test_a_worker_that_is_killed_in_a_later_call_is_started_again_too(tmp_path: Path):
    """What it opens its workplace with must still be there when the call that started it is long over."""
    with RayExecutor(Shop(tmp_path), 1) as engine:
        assert dict(engine.map_unordered(Shared(1, []), [(10, 0)])) == {0: (10, 11)}
        gc.collect()
        time.sleep(1)
        assert dict(engine.map_unordered(Shared(1, []), [(20, 1), (30, 0)])) == {0: (20, 21), 1: (30, 31)}
        assert len(list(tmp_path.glob("20-*"))) == 2, "it was played twice"


@dataclass(frozen=True)
class Closed:
    """An opener that fails as the settings of a run can."""

    def __call__(self, threads: int) -> Shop:
        raise UserError("runtime.device: this machine has no 'cuda'")


def test_what_fails_while_a_workplace_opens_is_said_as_it_is():
    with RayExecutor(Closed(), 1) as engine, pytest.raises(UserError, match=r"^runtime\.device: this machine has no"):
        list(engine.map_unordered(None, [1]))


class Unknown:
    """What another machine cannot import: its class is in a module that is only here."""

    def __reduce__(self) -> Any:
        return importlib.import_module, ("only_on_this_machine",)


def test_a_package_that_a_worker_lacks_is_named():
    with RayExecutor(Unknown(), 1) as engine, pytest.raises(UserError, match=r"cannot import.*only_on_this_machine"):
        list(engine.map_unordered(None, [1]))


def test_a_cluster_that_is_full_is_a_clear_error_and_not_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    @ray.remote(num_cpus=2)
    class Other:
        def answer(self) -> int:
            return 1

    other = Other.remote()
    assert ray.get(other.answer.remote()) == 1
    monkeypatch.setattr(cluster, "SECONDS_TO_PLACE", 2.0)
    try:
        engine = RayExecutor(Shop(tmp_path), 1)
        with pytest.raises(UserError, match=r"no worker within 2 seconds: each needs 1 CPUs.* 0 CPUs and 0 GPUs free"):
            list(engine.map_unordered(Shared(1, []), [(1, 0)]))
    finally:
        ray.kill(other)


def test_workers_have_no_more_threads_than_the_largest_machine_has_cpus(tmp_path: Path):
    """Else no machine could hold one, and the run would wait for ever."""
    torch.set_num_threads(3)
    with RayExecutor(Shop(tmp_path), 1) as engine:
        assert dict(engine.map_unordered(Shared(1, []), [(10, 0)])) == {0: (10, 11)}


def test_a_worker_that_is_killed_every_time_and_a_job_that_fails_are_clear_errors(tmp_path: Path):
    with RayExecutor(Shop(tmp_path), 1) as engine:
        with pytest.raises(UserError, match=r"^no job has the number -1$"):
            list(engine.map_unordered(Shared(1, []), [(-1, 0)]))
        with pytest.raises(UserError, match=r"was killed in every attempt .*ran out of memory"):
            list(engine.map_unordered(Shared(1, []), [(1, 99)]))


def test_what_stays_the_same_travels_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put, sent = ray.put, []

    def spy(value: Any) -> Any:
        sent.append(value)
        return put(value)

    weights, others = [1, 2], [1, 2]
    with RayExecutor(Shop(tmp_path), 1) as engine:
        list(engine.map_unordered(Shared(0, weights), [(1, 0)]))
        monkeypatch.setattr(ray, "put", spy)
        assert dict(engine.map_unordered(Shared(500, weights), [(1, 0), (2, 0)])) == {0: (1, 504), 1: (2, 505)}
        assert len(sent) == 1, "the number"
        list(engine.map_unordered(Shared(500, others), [(1, 0)]))
        assert len(sent) == 2, "another version of the weights"


def test_an_episode_is_that_of_this_process_to_the_bit(inputs: Inputs):
    def new_training(engine: str) -> MetaTraining:
        return MetaTraining(Session.prepare(inputs.config(runtime={"engine": engine, "processes": 2}), Silent()))

    here, there = new_training("serial"), new_training("ray")
    assert isinstance(there.engine, RayExecutor)
    with there.engine:
        for _ in range(2):
            first, second = here.episode().to_json(), there.episode().to_json()
            assert first | {"seconds": 0} == second | {"seconds": 0}
            assert is_same(here.lm_state, there.lm_state)
    assert is_same(here.learner.policy, there.learner.policy)


def test_the_cells_of_a_comparison_are_those_of_this_process(inputs: Inputs, nmg: Nmg, tmp_path: Path):
    inputs.write_config(tmp_path / "config.yaml")
    words = ("compare", "config.yaml", "--maskings", "none,random", "--seeds", "1", "--out")
    assert nmg(*words, "here", "--engine", "serial").code == 0
    answer = nmg(*words, "there", "--engine", "ray", "--runtime.processes", "2")
    assert answer.code == 0, answer.err

    def scores(out: str) -> list[dict[str, Any]]:
        cells = json.loads((tmp_path / out / "results.json").read_text())["cells"]
        return [cell | {"seconds": None} for cell in cells]

    assert scores("here") == scores("there")


def test_an_engine_has_as_many_workers_as_there_are_jobs_where_the_cluster_is_elsewhere(tmp_path: Path):
    settings = RuntimeSettings(device="cpu", engine="ray", ray_address="ray://elsewhere:10001")
    assert open_executor(settings, Shop(tmp_path), Shop(tmp_path), at_once=7, n_parameters=10**9).processes == 7


def test_without_ray_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"runtime\.engine ray needs Ray: pip install 'ray"):
        runtime.Runtime.start(RuntimeSettings(device="cpu", engine="ray"))


def test_an_address_without_a_cluster_is_a_clear_error(tmp_path: Path):
    ray.shutdown()
    engine = RayExecutor(Shop(tmp_path), 1, "127.0.0.1:1")
    with pytest.raises(UserError, match=r"runtime\.ray_address: there is no Ray cluster at '127\.0\.0\.1:1'"):
        list(engine.map_unordered(Shared(1, []), [(1, 0)]))
