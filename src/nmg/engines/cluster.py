"""Jobs at once, on the machines of a Ray cluster: a local one, or one that is there already.

What they share goes into Ray's object store, once for however many workers that read it there. A worker that is killed
is started again, and its job with it; jobs depend on nothing but themselves, so the result is the same.
"""

import os
import pickle
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch

from nmg.engines.base import Opener, Workplace
from nmg.engines.shared import Sent, pack, put_together, take_apart
from nmg.errors import UserError

RETRIES = 3
"""of a job whose worker was killed"""
SECONDS_TO_ANSWER = 10.0
"""until a cluster counts as not there"""
SECONDS_TO_PLACE = 300.0
"""until a cluster that starts no worker counts as full; one that adds machines on demand takes minutes"""


class RayEngine(AbstractContextManager["RayEngine"]):
    """`processes`: workers, no more than the cluster has room for.

    A local cluster has this process's threads, which the workers share. Workers of another cluster have as many threads
    each as they would here, but no more than its largest machine has CPUs, and a GPU each where the cluster has some
    and `wants_gpus`. They find packages, data and caches under the paths that this process uses.
    """

    def __init__(self, opener: Opener, processes: int, address: str | None = None, *, wants_gpus: bool = True) -> None:
        self.processes = processes
        self._opener, self._address, self._wants_gpus = opener, address, wants_gpus
        self._workers: list[Any] = []
        self._starting: dict[Any, Any] = {}
        """promise of a first answer → worker that has not given it yet"""
        self._room = Room(processes, 1, 0)
        self._opener_place: Any = None
        """of the opener in Ray's object store, for as long as there are workers: one that is started again needs it"""
        self._sent = _new_store()
        self._is_ours = False

    def play(self, shared: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        self._start()
        import ray

        whole, parts = take_apart(shared)
        common = (self._opener_place, pack(whole), *self._sent.places(parts))
        idle = [worker for worker in self._workers if worker not in self._starting.values()]
        waiting, playing = list(enumerate(jobs)), dict[Any, tuple[int, Any]]()
        try:
            while waiting or playing:
                while waiting and idle:
                    worker, (index, job) = idle.pop(), waiting.pop(0)
                    playing[worker.play.remote(pack(job), *common)] = index, worker
                done = self._next([*playing, *self._starting], None if playing else SECONDS_TO_PLACE)
                if done in self._starting:
                    ray.get(done)
                    idle.append(self._starting.pop(done))
                    continue
                index, worker = playing.pop(done)
                result = pickle.loads(ray.get(done))
                idle.append(worker)
                yield index, result
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ray.exceptions.RayError):
                raise explained(error.cause) from error
            raise error.cause from None
        except ray.exceptions.RayError as error:
            self.close()
            raise explained(error) from error

    def close(self) -> None:
        if not self._workers:
            return
        import ray

        for worker in self._workers:
            with suppress(ray.exceptions.RayError):  # the cluster may have ended first
                ray.kill(worker)
        self._workers, self._starting, self._opener_place, self._sent = [], {}, None, _new_store()
        if self._is_ours:
            ray.shutdown()
            self._is_ours = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        """Ask for the workers, which join as the cluster finds room for them."""
        if self._workers:
            return
        import ray

        threads = max(torch.get_num_threads() // self.processes, 1)
        if not ray.is_initialized():
            self._is_ours = True
            connect(self._address, self.processes * threads)
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._room = room_for(machines, self.processes, threads, wants_gpus=self._wants_gpus)
        self.processes, threads, gpus = self._room
        kind = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=-1, max_task_retries=RETRIES)(_Worker)
        self._opener_place = ray.put(pack(self._opener))
        self._workers = [kind.remote(threads, Path.cwd(), sys.path) for _ in range(self.processes)]
        self._starting = {worker.answer.remote(): worker for worker in self._workers}

    def _next(self, promises: Sequence[Any], seconds: float | None) -> Any:
        """The first of the promises that is kept. Raises UserError if none is within so many seconds."""
        import ray

        done, _ = ray.wait(list(promises), timeout=seconds)
        if not done:
            room, free = self._room, ray.available_resources()
            self.close()
            raise UserError(
                f"the Ray cluster started no worker within {seconds:g} seconds: each needs {room}, and the cluster has "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free. Wait until other work on it ends, "
                "or set runtime.threads lower."
            )
        return done[0]


class Room(NamedTuple):
    """How many workers a cluster can hold, and what each takes."""

    workers: int
    threads: int
    gpus: int
    """0 or 1"""

    def __str__(self) -> str:
        return f"{self.threads} CPUs" + " and a GPU" * self.gpus


def room_for(machines: Sequence[Mapping[str, float]], workers: int, threads: int, *, wants_gpus: bool) -> Room:
    """The room that a cluster has, at most for so many workers of so many threads.

    Args:
        machines: what each has, by Ray's names: {"CPU": 8.0, "GPU": 1.0}.
        workers: how many are wanted.
        threads: of each; fewer if no machine has as many CPUs.
        wants_gpus: whether each takes a GPU if the cluster has some.

    Raises:
        UserError: no machine has a CPU; or of those that have a GPU, if GPUs are wanted.
    """
    gpus = int(wants_gpus and any(machine.get("GPU", 0) >= 1 for machine in machines))
    fit = [machine for machine in machines if machine.get("GPU", 0) >= gpus]
    largest = int(max((machine.get("CPU", 0) for machine in fit), default=0))
    if largest < 1:
        raise UserError(
            f"the Ray cluster has no machine {'with a GPU ' * gpus}that offers a CPU to workers (ray start --num-cpus)"
        )
    threads = min(threads, largest)
    held = [int(machine.get("CPU", 0) // threads) for machine in fit]
    if gpus:
        held = [min(n, int(machine["GPU"])) for n, machine in zip(held, fit, strict=True)]
    return Room(min(workers, sum(held)), threads, gpus)


def explained(error: Exception) -> UserError:
    """What a failure of Ray is, for a user."""
    import ray.exceptions as of_ray

    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = f" (Ray: {lines[0][:300]})"
    fewer = "'--runtime.processes 1' plays inner loops one after another."
    if isinstance(error, of_ray.OutOfMemoryError):
        return UserError(f"the machine of a Ray worker ran out of memory. {fewer}{said}")
    if isinstance(error, of_ray.ObjectStoreFullError | of_ray.OutOfDiskError):
        return UserError(f"Ray has no room left for what its workers share, such as an LM's weights.{said}")
    if isinstance(error, of_ray.ObjectLostError):
        return UserError(f"Ray lost what its workers share: start the command again.{said}")
    if isinstance(error, of_ray.RayActorError | of_ray.WorkerCrashedError | of_ray.NodeDiedError):
        return UserError(
            f"a Ray worker was killed again each time that it was started for an inner loop, {RETRIES + 1} times at "
            f"most. Short of memory? {fewer}{said}"
        )
    return UserError(f"Ray failed with {type(error).__name__}.{said}")


def _new_store() -> Sent[Any]:
    """Ray's object store; an object goes from there when nobody has its reference."""

    def put(part: bytes) -> Any:
        import ray

        return ray.put(part)

    return Sent(put, lambda _reference: None)


class _Worker:
    """An actor: one process of the cluster, with a workplace of its own.

    It opens the workplace with its first job, so what fails there is an error of that job, not the end of the worker.
    """

    def __init__(self, threads: int, folder: Path, packages: list[str]) -> None:
        self._threads, self._folder = threads, folder
        self._workplace: Workplace | None = None
        sys.path += [path for path in packages if path not in sys.path]

    def answer(self) -> None:
        """Return as soon as there is a process for this worker."""

    def play(self, job: bytes, opener: bytes, whole: bytes, *parts: bytes) -> bytes:
        """The result of a job; `opener` makes the workplace, `whole` and `parts` are what jobs share (`take_apart`)."""
        if self._workplace is None:
            self._workplace = self._open(opener)
        shared = put_together(_unpack(whole), [_unpack(part) for part in parts])
        return pack(self._workplace.play(shared, _unpack(job)))

    def _open(self, opener: bytes) -> Workplace:
        try:
            os.chdir(self._folder)  # paths of settings may be relative
        except OSError as error:
            raise UserError(
                f"a Ray worker on '{socket.gethostname()}' does not find the folder of this run: {error}"
            ) from error
        made: Opener = _unpack(opener)
        return made.open(self._threads)


def _unpack(packed: bytes) -> Any:
    """Raises UserError if this machine lacks what the driver's has."""
    try:
        return pickle.loads(packed)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"a Ray worker on '{socket.gethostname()}' cannot import what it needs: {error}. Install the same versions "
            "of nmg and its packages on every machine, under the same paths."
        ) from error


def connect(address: str | None, n_threads: int) -> None:
    """Join the cluster at `address`, or start a local one. Raises UserError where there is none."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anyone who was not asked for
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address is None:
        try:
            ray.init(num_cpus=n_threads, include_dashboard=False, **quiet)
        except Exception:  # Ray waits for its own processes for a quarter of a minute, too short on a busy machine
            ray.shutdown()
            ray.init(num_cpus=n_threads, include_dashboard=False, **quiet)
        return
    try:
        if ":" in address:  # Ray itself would try for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"runtime.ray_address: there is no Ray cluster at '{address}': {error}") from error
