"""Selects the executor for the jobs of a run."""

import os

import torch

from nmg.base.distributed import is_distributed
from nmg.base.errors import UserError
from nmg.base.settings import RuntimeSettings
from nmg.executors.base import Executor, Worker, WorkerFactory
from nmg.executors.cluster import RayExecutor
from nmg.executors.processes import ProcessExecutor
from nmg.executors.serial import SerialExecutor

SMALL_MODEL = 50_000_000
"""Largest number of parameters for which jobs run in parallel by default.

A larger model uses all cores by itself, and several copies may not fit into memory.
"""


def open_executor(
    settings: RuntimeSettings, worker: Worker, factory: WorkerFactory, at_once: int, n_parameters: int
) -> Executor:
    """Return the executor that the settings ask for.

    In data-parallel training, all processes run every job together, so the executor is always serial.

    Args:
        settings: Settings of the runtime.
        worker: Worker of this process.
        factory: Opens a worker in another process.
        at_once: Maximum number of jobs that can run at the same time.
        n_parameters: Number of parameters of the model.

    Returns:
        A serial, multi-process or Ray executor.
    """
    if is_distributed():
        return SerialExecutor(worker)
    processes = process_count(settings, at_once, n_parameters)
    if settings.engine == "ray":
        return RayExecutor(factory, processes, settings.ray_address, wants_gpus=settings.device != "cpu")
    if settings.engine == "serial" or (settings.engine == "auto" and processes == 1):
        return SerialExecutor(worker)
    return ProcessExecutor(factory, processes, visible_gpus(settings))


def require_single_process(command: str) -> None:
    """Raise UserError if this process takes part in data-parallel training, which `command` does not support."""
    if is_distributed():
        raise UserError(
            f"nmg {command} cannot run under `accelerate launch`. Set --engine ray to use several machines."
        )


def process_count(settings: RuntimeSettings, at_once: int, n_parameters: int) -> int:
    """Return the number of processes: `runtime.processes`, up to the number of jobs.

    `auto` means one process per job on an existing Ray cluster, and one per GPU if there are several GPUs. For a small
    model (`SMALL_MODEL`) on several CPU cores it means one process per job, up to one more than the cores. Otherwise it
    means one process.

    Args:
        settings: Settings of the runtime.
        at_once: Maximum number of jobs that can run at the same time.
        n_parameters: Number of parameters of the model.

    Returns:
        The number of processes; 0 only if `at_once` is 0.
    """
    if settings.processes != "auto":
        return min(settings.processes, at_once)
    if settings.engine == "ray" and settings.ray_address is not None:
        return at_once  # the cluster may have resources for fewer
    if len(gpus := visible_gpus(settings)) > 1:
        return min(at_once, len(gpus))
    on_cpu = settings.device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    threads = torch.get_num_threads()
    if n_parameters > SMALL_MODEL or not on_cpu or threads == 1:
        return 1
    return min(at_once, threads + 1)  # one more process than cores keeps all cores busy while one waits


def visible_gpus(settings: RuntimeSettings) -> list[str]:
    """Return the GPUs that this run may use, by their names in CUDA_VISIBLE_DEVICES.

    The list is empty if the run does not use CUDA.
    """
    if settings.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    return numbers if named is None else [name.strip() for name in named.split(",")][: len(numbers)]
