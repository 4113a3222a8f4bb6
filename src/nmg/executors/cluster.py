"""Executor that runs jobs in parallel on a Ray cluster, either a local one or an existing one.

Shared data is put into Ray's object store once, however many workers read it. If a worker is killed, Ray restarts it
and repeats its job. Jobs do not depend on each other, so repeating one does not change results.
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

from nmg.base.errors import UserError
from nmg.executors.base import Worker, WorkerFactory
from nmg.executors.shared import SharedObjectStore, join_shared, pack, split_shared

RETRIES = 3
"""Number of times a job is repeated if its worker is killed."""
SECONDS_TO_ANSWER = 10.0
"""Timeout, in seconds, for connecting to a cluster."""
SECONDS_TO_PLACE = 300.0
"""Timeout, in seconds, for the start of a worker if no job is running.

It is long because autoscaling clusters take minutes to add a machine.
"""


class RayExecutor(AbstractContextManager["RayExecutor"]):
    """Runs jobs on the workers of a Ray cluster.

    On a local cluster, the workers share the threads of this process. On an existing cluster, each worker has as many
    threads as it would have here, up to the CPUs of the largest machine. Workers must find packages, data and caches
    under the same paths as this process.

    Args:
        factory: Opens the worker in each process.
        processes: Maximum number of workers. Fewer are started if the cluster has too few resources.
        address: Address of an existing cluster, or None to start a local one.
        wants_gpus: Whether each worker takes one GPU if the cluster has GPUs.
    """

    def __init__(
        self, factory: WorkerFactory, processes: int, address: str | None = None, *, wants_gpus: bool = True
    ) -> None:
        self.processes = processes
        self._factory, self._address, self._wants_gpus = factory, address, wants_gpus
        self._workers: list[Any] = []
        self._starting: dict[Any, Any] = {}
        """Maps the pending first answer of a worker to that worker."""
        self._room = Room(processes, 1, 0)
        self._factory_place: Any = None
        """Ray reference to the pickled factory. It is kept while workers exist because a restarted worker needs it."""
        self._sent = _new_store()
        self._is_ours = False

    def map_unordered(self, shared: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Run all jobs and yield `(index of the job, result)` as each job completes.

        Args:
            shared: Data that all jobs of this call share.
            jobs: The jobs to run.

        Raises:
            UserError: If Ray fails or no worker starts. Exceptions raised by a job are raised unchanged.
        """
        self._start()
        import ray

        whole, parts = split_shared(shared)
        common = (self._factory_place, pack(whole), *self._sent.places(parts))
        idle = [worker for worker in self._workers if worker not in self._starting.values()]
        waiting, playing = list(enumerate(jobs)), dict[Any, tuple[int, Any]]()
        try:
            while waiting or playing:
                while waiting and idle:
                    worker, (index, job) = idle.pop(), waiting.pop(0)
                    playing[worker.run.remote(pack(job), *common)] = index, worker
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
        """Stop the workers, and the cluster if this executor started it. The next `map_unordered` starts them again."""
        if not self._workers:
            return
        import ray

        for worker in self._workers:
            with suppress(ray.exceptions.RayError):  # the cluster may already have stopped
                ray.kill(worker)
        self._workers, self._starting, self._factory_place, self._sent = [], {}, None, _new_store()
        if self._is_ours:
            ray.shutdown()
            self._is_ours = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        """Request the workers if none exist. They join when the cluster has resources for them."""
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
        self._factory_place = ray.put(pack(self._factory))
        self._workers = [kind.remote(threads, Path.cwd(), sys.path) for _ in range(self.processes)]
        self._starting = {worker.answer.remote(): worker for worker in self._workers}

    def _next(self, promises: Sequence[Any], seconds: float | None) -> Any:
        """Return the first completed reference. Raises UserError if none completes within `seconds`."""
        import ray

        done, _ = ray.wait(list(promises), timeout=seconds)
        if not done:
            room, free = self._room, ray.available_resources()
            self.close()
            raise UserError(
                f"the Ray cluster started no worker within {seconds:g} seconds: each needs {room}, and the cluster has "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free. Wait until other work on it ends, "
                "or lower runtime.threads."
            )
        return done[0]


class Room(NamedTuple):
    """Number of workers that a cluster can run, and the resources of each."""

    workers: int
    """Number of workers."""
    threads: int
    """CPUs per worker."""
    gpus: int
    """GPUs per worker, 0 or 1."""

    def __str__(self) -> str:
        return f"{self.threads} CPUs" + " and a GPU" * self.gpus


def room_for(machines: Sequence[Mapping[str, float]], workers: int, threads: int, *, wants_gpus: bool) -> Room:
    """Compute how many workers a cluster can run, and the resources of each.

    Args:
        machines: Resources of each machine, under Ray's names: {"CPU": 8.0, "GPU": 1.0}.
        workers: Maximum number of workers.
        threads: Maximum threads per worker. The number is lower if no machine has that many CPUs.
        wants_gpus: Whether each worker takes one GPU if the cluster has any.

    Returns:
        The number of workers, and the threads and GPUs of each.

    Raises:
        UserError: If no suitable machine has a CPU. If workers take GPUs, only machines with a GPU are suitable.
    """
    gpus = int(wants_gpus and any(machine.get("GPU", 0) >= 1 for machine in machines))
    fit = [machine for machine in machines if machine.get("GPU", 0) >= gpus]
    largest = int(max((machine.get("CPU", 0) for machine in fit), default=0))
    if largest < 1:
        raise UserError(
            f"the Ray cluster has no machine {'with a GPU ' * gpus}that offers a CPU to workers. Start one with "
            "`ray start --num-cpus`."
        )
    threads = min(threads, largest)
    held = [int(machine.get("CPU", 0) // threads) for machine in fit]
    if gpus:
        held = [min(n, int(machine["GPU"])) for n, machine in zip(held, fit, strict=True)]
    return Room(min(workers, sum(held)), threads, gpus)


def explained(error: Exception) -> UserError:
    """Convert a Ray exception to a UserError with advice."""
    import ray.exceptions as of_ray

    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = f" (Ray: {lines[0][:300]})"
    fewer = "Set --runtime.processes 1 to run inner loops one after another."
    if isinstance(error, of_ray.OutOfMemoryError):
        return UserError(f"the machine of a Ray worker ran out of memory. {fewer}{said}")
    if isinstance(error, of_ray.ObjectStoreFullError | of_ray.OutOfDiskError):
        return UserError(
            "Ray has no space left for the data that its workers share, such as an LM's weights. Free memory or disk "
            f"space.{said}"
        )
    if isinstance(error, of_ray.ObjectLostError):
        return UserError(f"Ray lost the data that its workers share. Run the command again.{said}")
    if isinstance(error, of_ray.RayActorError | of_ray.WorkerCrashedError | of_ray.NodeDiedError):
        return UserError(
            f"a Ray worker was killed in every attempt to run an inner loop (up to {RETRIES + 1}), possibly because it "
            f"ran out of memory. {fewer}{said}"
        )
    return UserError(f"Ray failed with {type(error).__name__}.{said}")


def _new_store() -> SharedObjectStore[Any]:
    """Return an empty store that puts parts into Ray's object store.

    Ray deletes a part when its last reference is deleted.
    """

    def put(part: bytes) -> Any:
        """Put a part into Ray's object store and return its reference."""
        import ray

        return ray.put(part)

    return SharedObjectStore(put, lambda _reference: None)


class _Worker:
    """Ray actor: one process of the cluster with its own worker object.

    The worker object is created with the first job. An error during creation therefore fails that job instead of ending
    the actor.
    """

    def __init__(self, threads: int, folder: Path, packages: list[str]) -> None:
        self._threads, self._folder = threads, folder
        self._worker: Worker | None = None
        sys.path += [path for path in packages if path not in sys.path]

    def answer(self) -> None:
        """Return immediately. The call completes when the process of this actor has started."""

    def run(self, job: bytes, factory: bytes, whole: bytes, *parts: bytes) -> bytes:
        """Run one pickled job and return its pickled result.

        Args:
            job: The pickled job.
            factory: The pickled factory, which opens the worker.
            whole: The pickled type of the shared data (see `split_shared`).
            *parts: The pickled parts of the shared data.

        Returns:
            The pickled result.
        """
        if self._worker is None:
            self._worker = self._open(factory)
        shared = join_shared(_unpack(whole), [_unpack(part) for part in parts])
        return pack(self._worker.run(shared, _unpack(job)))

    def _open(self, factory: bytes) -> Worker:
        """Create the worker object in the working directory of the main process."""
        try:
            os.chdir(self._folder)  # paths in the settings may be relative
        except OSError as error:
            raise UserError(
                f"a Ray worker on '{socket.gethostname()}' cannot find the folder of this run: {error}"
            ) from error
        made: WorkerFactory = _unpack(factory)
        return made(self._threads)


def _unpack(packed: bytes) -> Any:
    """Unpickle a value. Raises UserError if a package of the main process is missing on this machine."""
    try:
        return pickle.loads(packed)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"a Ray worker on '{socket.gethostname()}' cannot import what it needs: {error}. Install the same versions "
            "of nmg and its packages on every machine, under the same paths."
        ) from error


def connect(address: str | None, n_threads: int) -> None:
    """Connect to the Ray cluster at `address`, or start a local one with `n_threads` CPUs if `address` is None.

    Raises:
        UserError: If the connection to `address` fails.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # usage statistics are off unless the user enables them
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address is None:
        try:
            ray.init(num_cpus=n_threads, include_dashboard=False, **quiet)
        except Exception:  # Ray waits only 15 s for its own processes, which is too short on a busy machine
            ray.shutdown()
            ray.init(num_cpus=n_threads, include_dashboard=False, **quiet)
        return
    try:
        if ":" in address:  # Ray itself would retry for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"runtime.ray_address: there is no Ray cluster at '{address}': {error}") from error
