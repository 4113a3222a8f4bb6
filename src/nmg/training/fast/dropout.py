"""Dropout on the CPU at a fraction of its usual cost.

torch draws one Bernoulli variable per element from a serial generator. This takes 9 to 20 ns per element, in total a
third of a training step of MiniLM. Here, four elements share one 64-bit random integer, and an element is kept if its
16 bits reach a threshold. The distribution is the same, with p rounded to a multiple of 2^-16. The random numbers come
from torch's own generator.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_LEVELS = 2**16
"""Number of values that 16 random bits can take."""
_CHECKPOINTED = "gradient_checkpointing"
"""Attribute of transformers' modules that says whether they are checkpointed."""
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


def _scaled(is_kept: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Return `scale` at the ones and 0 at the zeros of `is_kept` (int16), in `dtype`."""
    if dtype == torch.bfloat16:  # bfloat16 is as wide as int16: multiply the bits of the scale by 1 or 0
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
    """Compute softmax(query · keyᵀ · scale, masked), with dropout, times value, like `F.scaled_dot_product_attention`.

    Args:
        query, key, value: Float [..., T, H / heads].
        attn_mask: Broadcasts to [..., T, T]. If bool, False hides a position; if float, it is added to the scores.
        dropout_p: Dropout probability of the attention weights.
        scale: Factor of the scores, or None for (H / heads) ** -0.5.

    Returns:
        Float [..., T, H / heads].
    """
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return dropout(scores.softmax(dim=-1), dropout_p) @ value


def fast_dropout(device: torch.device, model: nn.Module) -> AbstractContextManager[Any]:
    """Return `FastDropout` if it is useful for `model` on `device`, otherwise a context manager that does nothing.

    Each torch function call is slightly slower inside `FastDropout`. Models are excluded if a caller turned on their
    gradient checkpointing: they run layers again in the backward pass, outside the context, and would draw different
    dropout.
    """
    is_of_use = device.type == "cpu" and not (is_checkpointed(model) and not _draws_again(model))
    return FastDropout() if is_of_use else nullcontext()


def dropout_again() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return the contexts of a checkpointed layer: of its first run, and of its second run in the backward pass."""
    return nullcontext(), FastDropout()


def _draws_again(model: nn.Module) -> bool:
    """Return whether the second run of each checkpointed layer of `model` uses `dropout_again`."""
    runs = [vars(one)["_gradient_checkpointing_func"] for one in model.modules() if vars(one).get(_CHECKPOINTED)]
    return all(isinstance(run, partial) and run.keywords.get("context_fn") is dropout_again for run in runs)


def is_checkpointed(model: nn.Module) -> bool:
    """Return whether training `model` runs layers again in the backward pass instead of storing activations."""
    return model.training and any(vars(module).get(_CHECKPOINTED, False) for module in model.modules())


class FastDropout(TorchFunctionMode):
    """Context manager that replaces all dropout of CPU tensors by `dropout`, including dropout within attention."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace calls of dropout and attention and leave all other functions unchanged."""
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
    """Return whether `dropout` supports `values`: floating-point numbers on the CPU."""
    return values.device.type == "cpu" and values.is_floating_point()


def _has_plain_dropout(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call is non-causal attention with dropout and without grouped heads."""
    p = args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0)
    special = len(args) > 5 or kwargs.get("is_causal", False) or kwargs.get("enable_gqa", False)
    return bool(p > 0.0 and not special and _takes(args[0] if args else kwargs["query"]))
