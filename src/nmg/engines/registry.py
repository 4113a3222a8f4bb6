"""Which engine plays the jobs of a run."""

import torch

from nmg.engines.base import Engine, Opener, Workplace
from nmg.engines.processes import ProcessEngine
from nmg.engines.serial import SerialEngine
from nmg.settings import RuntimeSettings

SMALL_MODEL = 50_000_000
"""parameters; a larger model keeps all cores busy by itself, and several copies of it in training may not fit"""


def open_engine(
    settings: RuntimeSettings, workplace: Workplace, opener: Opener, at_once: int, n_parameters: int
) -> Engine:
    """The engine that the settings ask for; `workplace` is this process's, `opener` makes another's.

    `at_once`: the most jobs that can be played at once.
    """
    processes = process_count(settings, at_once, n_parameters)
    if settings.engine == "serial" or (settings.engine == "auto" and processes == 1):
        return SerialEngine(workplace)
    return ProcessEngine(opener, processes)


def process_count(settings: RuntimeSettings, at_once: int, n_parameters: int) -> int:
    """`runtime.processes`, no more than there are jobs; for `auto` one a job where a small model has several cores."""
    if settings.processes != "auto":
        return min(settings.processes, at_once)
    on_cpu = settings.device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    threads = torch.get_num_threads()
    if n_parameters > SMALL_MODEL or not on_cpu or threads == 1:
        return 1
    return min(at_once, threads + 1)  # one more than there are cores keeps these busy while one waits
