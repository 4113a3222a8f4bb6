"""What the numbers were measured on, and how fast it multiplies matrices."""

import importlib.metadata
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

ROWS, INNER, COLUMNS = 2048, 768, 768
"""A product of the sizes that a BERT layer multiplies: 2048 tokens, hidden size 768."""


def describe() -> dict[str, Any]:
    import numpy
    import transformers

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "nmg": importlib.metadata.version("nmg"),
    }


def _processor() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def matmul_rate(dtype: torch.dtype, device: torch.device, seconds: float = 0.5) -> float:
    """Floating-point operations a second (a multiplication and an addition count as two), median over repetitions."""
    first = torch.randn(ROWS, INNER, device=device).to(dtype)
    second = torch.randn(INNER, COLUMNS, device=device).to(dtype)
    times: list[float] = []
    repetitions, began = (50 if device.type == "cuda" else 4), time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 5:
        _wait(device)
        start = time.perf_counter()
        for _ in range(repetitions):
            first @ second
        _wait(device)
        times.append(time.perf_counter() - start)
    return 2 * ROWS * INNER * COLUMNS * repetitions / statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
