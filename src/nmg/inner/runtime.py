"""Where and how fast the inner loop runs: device, precision, threads. Nothing here changes what is computed."""

import ctypes
import functools
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version

import torch
from accelerate import Accelerator

from nmg.errors import UserError
from nmg.settings import RuntimeSettings

PACKAGES = ("nmg", "torch", "transformers", "tokenizers", "accelerate", "numpy")


@dataclass(frozen=True)
class Runtime:
    accelerator: Accelerator
    evaluation_batch_size: int

    @classmethod
    def start(cls, settings: RuntimeSettings) -> "Runtime":
        """Raises UserError when the device asked for is not there."""
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if settings.device != "auto" and not available[settings.device]:
            raise UserError(f"runtime.device: this machine has no '{settings.device}' (use auto or cpu)")
        on_cpu = settings.device == "cpu" or not (available["cuda"] or available["mps"])
        if on_cpu:
            keep_freed_memory()
        mixed = "no" if _precision(settings, on_cpu) == "fp32" else "bf16"
        return cls(Accelerator(cpu=on_cpu, mixed_precision=mixed), settings.evaluation_batch_size)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device  # type: ignore[no-any-return]

    @property
    def precision(self) -> str:
        return "fp32" if self.accelerator.mixed_precision == "no" else "bf16"

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
            **package_versions(),
        }

    def autocast(self) -> AbstractContextManager[None]:
        return self.accelerator.autocast()  # type: ignore[no-any-return]


def package_versions() -> dict[str, str]:
    """Of nmg and the packages whose versions may change a result."""
    return {name: version(name) for name in PACKAGES}


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
