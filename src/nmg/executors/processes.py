"""Executor that runs jobs in parallel in processes on this machine.

A training step of a small model is too short to benefit from several cores, but inner loops are independent. Shared
data is exchanged through files, which each process reads once.
"""

import os
import pickle
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from loky import ProcessPoolExecutor

from nmg.base.errors import UserError
from nmg.base.files import cannot_write
from nmg.executors.base import WorkerFactory
from nmg.executors.shared import SharedObjectStore, pack, split_shared
from nmg.executors.worker import open_worker, run

IDLE_SECONDS = 300
"""Seconds after which an idle process ends. A new process starts if there are jobs again."""
KEEPS_MEMORY = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e15"}
"""Environment variable that sets loky's limit on memory growth (in bytes) so high that no process is replaced because
it keeps memory."""


class ProcessExecutor(AbstractContextManager["ProcessExecutor"]):
    """Runs jobs in a pool of processes that share the threads of this process.

    The processes end when the executor is closed or this process ends for any reason.

    Args:
        factory: Opens the worker in each process.
        processes: Number of processes.
        gpus: GPUs of this machine, by their names in CUDA_VISIBLE_DEVICES. The processes are distributed over them.
    """

    def __init__(self, factory: WorkerFactory, processes: int, gpus: Sequence[str] = ()) -> None:
        self.processes = processes
        self._factory, self._gpus = factory, tuple(gpus)
        self._executor: ProcessPoolExecutor | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._sent = SharedObjectStore(self._write, Path.unlink)

    def map_unordered(self, shared: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Run all jobs and yield `(index of the job, result)` as each job completes.

        Args:
            shared: Data that all jobs of this call share.
            jobs: The jobs to run.

        Raises:
            UserError: If a process ends before its job is complete, or if a file cannot be written.
        """
        whole, parts = split_shared(shared)
        files = self._sent.places(parts)
        try:
            futures = {self._start().submit(run, pack(job), whole, *files): index for index, job in enumerate(jobs)}
            for future in as_completed(futures):
                yield futures[future], pickle.loads(future.result())
        except BrokenProcessPool as error:
            self.close()
            raise UserError(
                "a process ended before its inner loop was complete, possibly because it ran out of memory. "
                "Set --runtime.processes 1 to run inner loops one after another."
            ) from error

    def close(self) -> None:
        """Stop the processes and delete the shared files. The next `map_unordered` starts them again."""
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)
            self._executor = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder, self._sent = None, SharedObjectStore(self._write, Path.unlink)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, part: bytes) -> Path:
        """Write a pickled part to a new file and return its path. Raises UserError if the file cannot be written."""
        file = self._own_folder() / secrets.token_hex(8)
        try:
            file.write_bytes(part)
        except OSError as error:
            raise cannot_write(file, error) from error
        return file

    def _own_folder(self) -> Path:
        """Return the temporary folder of this executor, created on first use."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="nmg-")
        return Path(self._folder.name)

    def _start(self) -> ProcessPoolExecutor:
        """Return the process pool, created on first use."""
        if self._executor is None:
            threads = max(torch.get_num_threads() // self.processes, 1)
            folder = self._own_folder() if self._gpus else None
            self._executor = ProcessPoolExecutor(
                max_workers=self.processes,
                timeout=IDLE_SECONDS,
                initializer=open_worker,
                initargs=(pack(self._factory), threads, os.getpid(), self._gpus, folder),
                env=KEEPS_MEMORY,
            )
        return self._executor
