"""Device, precision, threads and memory of the inner loop. They affect speed and rounding only."""

import ctypes
import functools
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nmg.base.distributed import is_distributed, leave_at_exit
from nmg.base.errors import UserError
from nmg.base.extras import install_command
from nmg.base.settings import RuntimeSettings
from nmg.training.data_parallel import SINGLE, DataParallel

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
"""Number format of matrix products."""
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision → dtype, if it is not fp32."""
PACKAGES = ("nmg", "torch", "transformers", "tokenizers", "accelerate", "numpy")
"""Packages whose versions may change a result."""


@dataclass(frozen=True)
class Runtime:
    """Device, precision, memory and parallelism of the inner loops of this process.

    The only global state it changes is torch's number of threads and what `deterministic` requires. Runs with other
    settings can therefore follow in the same process or run at the same time. In data-parallel training, accelerate
    selects the device of each process.
    """

    device: torch.device
    precision: Precision
    evaluation_batch_size: int
    """Rows per forward pass in evaluation mode."""
    sharing: DataParallel = SINGLE
    """How every training batch is divided among data-parallel processes."""
    micro_batch_size: int | None = None
    """Maximum number of rows per pass of a training step, in each process; None for the whole batch."""
    packing: bool = False
    """Whether to pack blocks into one row without padding during adaptation."""
    gradient_checkpointing: bool = False
    """Whether training runs layers again in the backward pass instead of storing their activations."""
    keeps_memory: bool = False
    """Whether freed memory is kept for the next step."""

    @classmethod
    def start(cls, settings: RuntimeSettings) -> "Runtime":
        """Configure torch according to the settings and return the runtime.

        Raises:
            UserError: If the requested device or executor is not available.
        """
        if settings.engine == "ray" and find_spec("ray") is None:
            raise UserError(f"runtime.engine: 'ray' needs Ray: {install_command('ray')}")
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if settings.device != "auto" and not available[settings.device]:
            raise UserError(f"runtime.device: this machine has no '{settings.device}': use auto or cpu")
        name = settings.device
        if name == "auto":
            name = next(known for known in ("cuda", "mps", "cpu") if available[known])
        device, sharing = _join(name) if is_distributed() else (torch.device(name), SINGLE)
        on_cpu = device.type == "cpu"
        kept = on_cpu and sys.platform == "linux" and keeps_memory(settings)
        if kept:
            keep_freed_memory()
        if settings.deterministic:
            # cuBLAS is deterministic only with this variable.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        return cls(
            device,
            _precision(settings, device.type),
            settings.evaluation_batch_size,
            sharing,
            settings.micro_batch_size,
            settings.packing,
            settings.gradient_checkpointing,
            kept,
        )

    @property
    def threads(self) -> int:
        """Number of torch threads."""
        return torch.get_num_threads()

    def environment(self) -> dict[str, str]:
        """Describe everything that may affect rounding: device, precision, parallelism and package versions."""
        on_cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if on_cuda else self.device.type,
            "precision": self.precision,
            "threads": str(self.threads),
            "processes that share batches": str(self.sharing.processes),
            "rows at once": str(self.micro_batch_size or "all"),
            "packing": "yes" if self.packing else "no",
            **package_versions(),
        }

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context that computes matrix products in bf16 or fp16. It does nothing if the precision is fp32."""
        dtype = HALF.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def give_back_memory(self) -> None:
        """Return freed memory to the system. This limits the memory that is kept and makes one step slower."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if self.keeps_memory else None
        if trim is not None:
            trim(0)


COMMAND = "NMG_COMMAND"
"""Environment variable that is set in nmg commands and in the processes they start."""


def keeps_memory(settings: RuntimeSettings) -> bool:
    """Return whether freed memory is kept. `auto` keeps it only in processes of nmg commands."""
    return COMMAND in os.environ if settings.keep_memory == "auto" else settings.keep_memory


def package_versions() -> dict[str, str]:
    """Return the versions of nmg and of the packages that may change a result."""
    return {name: version(name) for name in PACKAGES}


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to `device`. Transfers to a GPU use pinned memory and are asynchronous."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc keep freed memory until `Runtime.give_back_memory`. Has no effect with other C libraries.

    A training step frees and allocates the same large tensors repeatedly. By default, each allocation consists of new
    pages that the system must map and clear. This takes up to a fifth of a step of MiniLM.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26)):
            mallopt(option, value)


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Option numbers from malloc.h."""


def _join(device: str) -> tuple[torch.device, DataParallel]:
    """Return the device of this process in data-parallel training, and its share of batches."""
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    leave_at_exit()
    return state.device, DataParallel(state.num_processes, state.process_index)


def _precision(settings: RuntimeSettings, device_type: str) -> Precision:
    """Return the precision of the settings. `auto` is bf16 if the hardware supports it, else fp16 on CUDA."""
    if settings.precision != "auto":
        return settings.precision
    if _multiplies_bf16(device_type == "cpu"):
        return "bf16"
    return "fp16" if device_type == "cuda" else "fp32"


@functools.cache
def _multiplies_bf16(on_cpu: bool) -> bool:
    """Return whether the machine has bf16 matrix instructions. Without them, bf16 is emulated and slower than fp32."""
    if not on_cpu:
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
