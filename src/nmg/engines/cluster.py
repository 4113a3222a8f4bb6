"""Jobs at once, on the machines of a Ray cluster: a local one, or one that is there already.

What they share goes into Ray's object store, once for however many workers that read it there. A worker that is killed
is started again, and its job with it; jobs depend on nothing but themselves, so the result is the same.
"""

import os
import pickle
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from nmg.engines.base import Opener, Workplace
from nmg.engines.shared import Sent, pack, put_together, take_apart
from nmg.errors import UserError

RETRIES = 3
"""of a job whose worker was killed"""
SECONDS_TO_ANSWER = 10.0
"""until a cluster counts as not there"""


class RayEngine(AbstractContextManager["RayEngine"]):
    """`processes`: workers, no more than the cluster has room for.

    A local cluster has this process's threads, which the workers share. Workers of another cluster have as many threads
    each as they would here, and a GPU each where the cluster has some. They find packages, data and caches under the
    paths that this process uses.
    """

    def __init__(self, opener: Opener, processes: int, address: str | None = None) -> None:
        self.processes = processes
        self._opener, self._address = opener, address
        self._workers: list[Any] = []
        self._sent = _new_store()
        self._is_ours = False

    def play(self, shared: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        self._start()
        import ray

        whole, parts = take_apart(shared)
        references = self._sent.places(parts)
        idle, waiting = list(self._workers), list(enumerate(jobs))
        playing: dict[Any, tuple[int, Any]] = {}
        try:
            while waiting or playing:
                while waiting and idle:
                    worker, (index, job) = idle.pop(), waiting.pop(0)
                    playing[worker.play.remote(pack(job), whole, *references)] = index, worker
                (done, *_), _ = ray.wait(list(playing))
                index, worker = playing.pop(done)
                result = pickle.loads(ray.get(done))
                idle.append(worker)
                yield index, result
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            self.close()
            raise UserError(
                f"a Ray worker that plays an inner loop ended {RETRIES + 1} times before its work was done. Short of "
                "memory? '--runtime.processes 1' plays them one after another."
            ) from error

    def close(self) -> None:
        if not self._workers:
            return
        import ray

        for worker in self._workers:
            ray.kill(worker)
        self._workers, self._sent = [], _new_store()
        if self._is_ours:
            ray.shutdown()
            self._is_ours = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        if self._workers:
            return
        import ray

        threads = max(torch.get_num_threads() // self.processes, 1)
        if not ray.is_initialized():
            self._is_ours = True
            connect(self._address, self.processes * threads)
        room = ray.cluster_resources()
        n_gpus = 1 if room.get("GPU") else 0
        self.processes = min(self.processes, max(int(room["GPU"] if n_gpus else room["CPU"] // threads), 1))
        worker = ray.remote(num_cpus=threads, num_gpus=n_gpus, max_restarts=-1, max_task_retries=RETRIES)(_Worker)
        opener = ray.put(pack(self._opener))
        self._workers = [worker.remote(opener, threads, Path.cwd(), sys.path) for _ in range(self.processes)]


def _new_store() -> Sent[Any]:
    """Ray's object store; an object goes from there when nobody has its reference."""

    def put(part: bytes) -> Any:
        import ray

        return ray.put(part)

    return Sent(put, lambda _reference: None)


class _Worker:
    """An actor: one process of the cluster, with a workplace of its own."""

    def __init__(self, opener: bytes, threads: int, folder: Path, packages: list[str]) -> None:
        os.chdir(folder)  # paths of settings may be relative
        sys.path += [path for path in packages if path not in sys.path]
        self._workplace: Workplace = pickle.loads(opener).open(threads)

    def play(self, job: bytes, whole: type | None, *parts: bytes) -> bytes:
        shared = put_together(whole, [pickle.loads(part) for part in parts])
        return pack(self._workplace.play(shared, pickle.loads(job)))


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
