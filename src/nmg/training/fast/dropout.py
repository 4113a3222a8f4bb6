"""Dropout on the CPU at a fraction of its usual cost.

torch draws one Bernoulli variable per element from a serial generator. This takes 9 to 20 ns per element, in total a
third of a training step of MiniLM. Here, four elements share one 64-bit random integer, and an element is kept if its
16 bits reach a threshold. The distribution is the same, with p rounded to a multiple of 2^-16. The random numbers come
from torch's own generator.
"""

import torch
from torch import Tensor

_LEVELS = 2**16
"""Number of values that 16 random bits can take."""
_LOWEST = -(2**15)
"""Lowest int16 value."""


def dropout(values: Tensor, p: float) -> Tensor:
    """Zero each element with probability p and divide the others by 1 - p.

    Args:
        values: Float tensor of any shape, on the CPU.
        p: Dropout probability, rounded to a multiple of 2^-16.

    Returns:
        A tensor with the shape and dtype of `values`.
    """
    dropped = min(round(p * _LEVELS), _LEVELS - 1)
    if dropped == 0:
        return values
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: values.numel()].view(values.shape)
    first_kept = _LOWEST + dropped
    # 1 if kept, 0 if dropped. Integer arithmetic is much faster than a comparison and a conversion.
    is_kept = bits.clamp_(first_kept - 1, first_kept).sub_(first_kept - 1)
    return values * _scaled(is_kept, _LEVELS / (_LEVELS - dropped), values.dtype)


def is_supported(values: Tensor) -> bool:
    """Return whether the functions of this package take `values`: floating-point numbers on the CPU."""
    return values.device.type == "cpu" and values.is_floating_point()


def _scaled(is_kept: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Return `scale` at the ones and 0 at the zeros of `is_kept` (int16), in `dtype`."""
    if dtype == torch.bfloat16:  # bfloat16 is as wide as int16: multiply the bits of the scale by 1 or 0
        bits = torch.tensor(scale, dtype=dtype).view(torch.int16).item()
        return is_kept.mul_(int(bits)).view(dtype)
    return is_kept.to(dtype).mul_(scale)
