"""Which engine plays the jobs of a run."""

import os

import torch

from nmg.engines.base import Engine, Opener, Workplace
from nmg.engines.cluster import RayEngine
from nmg.engines.processes import ProcessEngine
from nmg.engines.serial import SerialEngine
from nmg.errors import UserError
from nmg.settings import RuntimeSettings
from nmg.together import train_together

SMALL_MODEL = 50_000_000
"""parameters; a larger model keeps all cores busy by itself, and several copies of it in training may not fit"""


def open_engine(
    settings: RuntimeSettings, workplace: Workplace, opener: Opener, at_once: int, n_parameters: int
) -> Engine:
    """The engine that the settings ask for; `workplace` is this process's, `opener` makes another's.

    `at_once`: the most jobs that can be played at once. Processes that train together play all jobs together.
    """
    if train_together():
        return SerialEngine(workplace)
    processes = process_count(settings, at_once, n_parameters)
    if settings.engine == "ray":
        return RayEngine(opener, processes, settings.ray_address, wants_gpus=settings.device != "cpu")
    if settings.engine == "serial" or (settings.engine == "auto" and processes == 1):
        return SerialEngine(workplace)
    return ProcessEngine(opener, processes, visible_gpus(settings))


def check_alone(command: str) -> None:
    """Raises UserError among processes that train together, for a command whose inner loops an engine shares out."""
    if train_together():
        raise UserError(
            f"nmg {command} is not for `accelerate launch`: more machines play its inner loops by --engine ray"
        )


def process_count(settings: RuntimeSettings, at_once: int, n_parameters: int) -> int:
    """`runtime.processes`, no more than there are jobs.

    `auto` is one a job where a small model has several cores, and on other machines; and one a GPU where there are
    several.
    """
    if settings.processes != "auto":
        return min(settings.processes, at_once)
    if settings.engine == "ray" and settings.ray_address is not None:
        return at_once  # or as many as the cluster has room for
    if len(gpus := visible_gpus(settings)) > 1:
        return min(at_once, len(gpus))
    on_cpu = settings.device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    threads = torch.get_num_threads()
    if n_parameters > SMALL_MODEL or not on_cpu or threads == 1:
        return 1
    return min(at_once, threads + 1)  # one more than there are cores keeps these busy while one waits


def visible_gpus(settings: RuntimeSettings) -> list[str]:
    """The GPUs that processes of a run may take, by their names in CUDA_VISIBLE_DEVICES; none if it runs elsewhere."""
    if settings.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    return numbers if named is None else [name.strip() for name in named.split(",")][: len(numbers)]
