"""Dropout on the CPU at a fraction of its usual cost.

torch draws one Bernoulli variable an element from a serial generator: 9 to 20 ns each, which adds up to a third of a
training step of MiniLM. Here four elements share a 64-bit random integer, and each is kept where its 16 bits reach a
threshold. The distribution is the same, with p rounded to a multiple of 2^-16, and so is the source: torch's own
generator.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_LEVELS = 2**16
_LOWEST = -(2**15)


def dropout(values: Tensor, p: float) -> Tensor:
    """`values` with each element zeroed with probability p (in steps of 2^-16), the others divided by 1 - p."""
    dropped = min(round(p * _LEVELS), _LEVELS - 1)
    if dropped == 0:
        return values
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: values.numel()].view(values.shape)
    first_kept = _LOWEST + dropped
    # 1 where kept, 0 where dropped; integer arithmetic is many times faster than a comparison and its conversion.
    is_kept = bits.clamp_(first_kept - 1, first_kept).sub_(first_kept - 1)
    return values * _scaled(is_kept, _LEVELS / (_LEVELS - dropped), values.dtype)


def _scaled(is_kept: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """`scale` where is_kept, an int16 tensor of ones and zeros, is one."""
    if dtype == torch.bfloat16:  # as wide as int16: the number's own bits, times one or zero
        bits = torch.tensor(scale, dtype=dtype).view(torch.int16).item()
        return is_kept.mul_(int(bits)).view(dtype)
    return is_kept.to(dtype).mul_(scale)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """softmax(query · keyᵀ · scale, masked), with dropout, times value: as `F.scaled_dot_product_attention`.

    Args:
        query, key, value: float [..., T, H / heads].
        attn_mask: broadcasts to [..., T, T]; bool, False where not attended to, or float, added to the scores.
    """
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return dropout(scores.softmax(dim=-1), dropout_p) @ value


def fast_dropout(device: torch.device, model: nn.Module) -> AbstractContextManager[Any]:
    """`FastDropout` if it does something for `model` on `device`: each call of a torch function costs a little inside.

    Gradient checkpointing runs layers again in the backward pass, outside of it, where they would draw other dropout.
    """
    is_of_use = device.type == "cpu" and not is_checkpointed(model)
    return FastDropout() if is_of_use else nullcontext()


def is_checkpointed(model: nn.Module) -> bool:
    """Whether a training of `model` runs layers again in the backward pass, in the place of keeping what they gave."""
    return model.training and any(vars(module).get("gradient_checkpointing", False) for module in model.modules())


class FastDropout(TorchFunctionMode):
    """Inside of it, dropout of tensors on the CPU is the one above, in every model, also within attention."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            arguments = dict(zip(("input", "p", "training"), args, strict=False)) | dict(kwargs)
            p = arguments.get("p", 0.5)
            if arguments.get("training", True) and p > 0.0 and _takes(arguments["input"]):
                return dropout(arguments["input"], p)
        elif func is F.scaled_dot_product_attention and _has_plain_dropout(args, kwargs):
            return attention(
                *args, **{name: kwargs[name] for name in kwargs if name not in ("is_causal", "enable_gqa")}
            )
        return func(*args, **kwargs)


def _takes(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.is_floating_point()


def _has_plain_dropout(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Attention with dropout between query, key and value of the same heads, not causal."""
    p = args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0)
    special = len(args) > 5 or kwargs.get("is_causal", False) or kwargs.get("enable_gqa", False)
    return bool(p > 0.0 and not special and _takes(args[0] if args else kwargs["query"]))
