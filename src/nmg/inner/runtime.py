"""Where and how fast the inner loop runs: device, precision, threads. Nothing here changes what is computed."""

import ctypes
import functools
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from nmg.errors import UserError
from nmg.inner.sharing import ALONE, Sharing
from nmg.settings import RuntimeSettings
from nmg.together import train_together

PACKAGES = ("nmg", "torch", "transformers", "tokenizers", "accelerate", "numpy")


@dataclass(frozen=True)
class Runtime:
    """No state of the process but torch's number of threads, and what `deterministic` asks for: runs of other settings
    may follow, or go on beside it. Processes that train together are joined by accelerate, which fixes their devices.
    """

    device: torch.device
    precision: Literal["fp32", "bf16"]
    evaluation_batch_size: int
    sharing: Sharing = ALONE
    """of every training batch among processes"""
    rows_at_once: int | None = None
    """of a training step, in each process"""
    packing: bool = False
    """whether an LM adapts on blocks without padding"""
    keeps_memory: bool = False
    """whether freed memory is kept for the next step"""

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
        name = settings.device
        if name == "auto":
            name = next(known for known in ("cuda", "mps", "cpu") if available[known])
        device, sharing = _join(name) if train_together() else (torch.device(name), ALONE)
        on_cpu = device.type == "cpu"
        kept = on_cpu and sys.platform == "linux" and keeps_memory(settings)
        if kept:
            keep_freed_memory()
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS has no such algorithms without it
            torch.use_deterministic_algorithms(True)
        return cls(
            device,
            _precision(settings, on_cpu),
            settings.evaluation_batch_size,
            sharing,
            settings.rows_at_once,
            settings.packing,
            kept,
        )

    @property
    def threads(self) -> int:
        return torch.get_num_threads()

    def circumstances(self) -> dict[str, str]:
        """All that may round a result otherwise: where it is computed, how, and by which versions."""
        on_cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if on_cuda else self.device.type,
            "precision": self.precision,
            "threads": str(self.threads),
            "processes that share batches": str(self.sharing.processes),
            "rows at once": str(self.rows_at_once or "all"),
            "packing": "yes" if self.packing else "no",
            **package_versions(),
        }

    def autocast(self) -> AbstractContextManager[None]:
        """Matrix products in bf16 where that is the precision; nothing otherwise."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def give_back_memory(self) -> None:
        """Give the system what was freed and kept so far: a bound on what is kept, at the cost of one slower step."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if self.keeps_memory else None
        if trim is not None:
            trim(0)


COMMAND = "NMG_COMMAND"
"""variable of the environment that says that this process is a command of nmg's, or was started by one"""


def keeps_memory(settings: RuntimeSettings) -> bool:
    return COMMAND in os.environ if settings.keep_memory == "auto" else settings.keep_memory


def package_versions() -> dict[str, str]:
    """Of nmg and the packages whose versions may change a result."""
    return {name: version(name) for name in PACKAGES}


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; to a GPU from pinned memory, without waiting until it is there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@functools.cache
def keep_freed_memory() -> None:
    """Ask glibc to keep what is freed until `Runtime.give_back_memory`; does nothing with another C library.

    A training step frees and asks for the same large tensors again and again. Each time they come as fresh pages, which
    the system must map and clear: up to a fifth of a step of MiniLM.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26)):
            mallopt(option, value)


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Names and numbers of malloc.h."""


def _join(device: str) -> tuple[torch.device, Sharing]:
    """The device of this process among those that train together, and its share."""
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    return state.device, Sharing(state.num_processes, state.process_index)


def _precision(settings: RuntimeSettings, on_cpu: bool) -> Literal["fp32", "bf16"]:
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if _multiplies_bf16(on_cpu) else "fp32"


@functools.cache
def _multiplies_bf16(on_cpu: bool) -> bool:
    """True where the machine has bf16 matrix instructions; elsewhere bf16 is emulated and slower than fp32."""
    if not on_cpu:
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
