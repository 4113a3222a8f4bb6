"""Where and how fast the inner loop runs: device, precision, threads. Nothing here changes what is computed."""

import ctypes
import functools
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from accelerate import Accelerator
from torch import Tensor

from nmg.errors import UserError
from nmg.seeding import StreamName
from nmg.settings import RuntimeSettings


@dataclass(frozen=True)
class Runtime:
    accelerator: Accelerator
    evaluation_batch_size: int
    rows_at_once: int | None = None
    """of a training step, in each process"""
    packing: bool = False
    """whether an LM adapts on blocks without padding"""

    @classmethod
    def start(cls, settings: RuntimeSettings) -> "Runtime":
        """Raises UserError when the device or the engine asked for is not there."""
        if settings.engine == "ray" and find_spec("ray") is None:
            raise UserError("runtime.engine ray needs Ray: pip install 'nmg[ray]'")
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if settings.device != "auto" and not available[settings.device]:
            raise UserError(f"runtime.device: this machine has no '{settings.device}' (use auto or cpu)")
        on_cpu = settings.device == "cpu" or not (available["cuda"] or available["mps"])
        if on_cpu:
            keep_freed_memory()
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS has no such algorithms without it
            torch.use_deterministic_algorithms(True)
        mixed = "no" if _precision(settings, on_cpu) == "fp32" else "bf16"
        accelerator = Accelerator(cpu=on_cpu, mixed_precision=mixed)
        return cls(accelerator, settings.evaluation_batch_size, settings.rows_at_once, settings.packing)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device  # type: ignore[no-any-return]

    @property
    def precision(self) -> str:
        return "fp32" if self.accelerator.mixed_precision == "no" else "bf16"

    @property
    def threads(self) -> int:
        return torch.get_num_threads()

    @property
    def is_first(self) -> bool:
        """False in all but one of several processes that train together (`accelerate launch`): the one that writes."""
        return bool(self.accelerator.is_main_process)

    def parts(self, n_rows: int) -> list[tuple[slice, int]]:
        """The rows of a batch that this process trains on, at most `rows_at_once` at once, and how often each counts.

        Sums over rows, times that number, average over the processes to the sum over the batch. A batch of fewer rows
        than there are processes is trained on by each.
        """
        n, this = self.accelerator.num_processes, self.accelerator.process_index
        if n_rows < n:
            n, this = 1, 0
        first, last = n_rows * this // n, n_rows * (this + 1) // n
        size = self.rows_at_once or n_rows
        return [(slice(start, min(start + size, last)), n) for start in range(first, last, size)]

    def own(self, randomness: StreamName) -> StreamName:
        """The stream of this process among those that train together; the first one's is that of a process alone."""
        return randomness / self.accelerator.process_index if self.accelerator.process_index else randomness

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes that train together."""
        if self.accelerator.num_processes > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)
                tensor.div_(self.accelerator.num_processes)

    def autocast(self) -> AbstractContextManager[None]:
        return self.accelerator.autocast()  # type: ignore[no-any-return]


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; to a GPU from pinned memory, without waiting until it is there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@functools.cache
def keep_freed_memory() -> None:
    """Ask glibc to keep what is freed instead of giving it back to the system; does nothing with another C library.

    A training step frees and asks for the same large tensors again and again. Each time they come as fresh pages, which
    the system must map and clear: up to a fifth of a step of MiniLM.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26)):
            mallopt(option, value)


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Names and numbers of malloc.h."""


def _precision(settings: RuntimeSettings, on_cpu: bool) -> str:
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if _multiplies_bf16(on_cpu) else "fp32"


@functools.cache
def _multiplies_bf16(on_cpu: bool) -> bool:
    """True where the machine has bf16 matrix instructions; elsewhere bf16 is emulated and slower than fp32."""
    if not on_cpu:
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
