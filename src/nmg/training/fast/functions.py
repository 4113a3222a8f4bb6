"""Replaces functions of torch that are slow on the CPU, within a context: dropout and attention."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nmg.training.fast.attention import attention, is_slow_in_torch
from nmg.training.fast.dropout import dropout, is_supported

_CHECKPOINTED = "gradient_checkpointing"
"""Attribute of transformers' modules that says whether they are checkpointed."""


def fast_functions(device: torch.device, model: nn.Module) -> AbstractContextManager[Any]:
    """Return `FastFunctions` if it is useful for `model` on `device`, otherwise a context manager that does nothing.

    Each torch function call is slightly slower inside `FastFunctions`. Models are excluded if a caller turned on their
    gradient checkpointing: they run layers again in the backward pass, outside the context, and would draw different
    dropout.
    """
    is_of_use = device.type == "cpu" and not (is_checkpointed(model) and not _draws_again(model))
    return FastFunctions() if is_of_use else nullcontext()


def functions_again() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return the contexts of a checkpointed layer: of its first run, and of its second run in the backward pass."""
    return nullcontext(), FastFunctions()


def _draws_again(model: nn.Module) -> bool:
    """Return whether the second run of each checkpointed layer of `model` uses `functions_again`."""
    runs = [vars(one)["_gradient_checkpointing_func"] for one in model.modules() if vars(one).get(_CHECKPOINTED)]
    return all(isinstance(run, partial) and run.keywords.get("context_fn") is functions_again for run in runs)


def is_checkpointed(model: nn.Module) -> bool:
    """Return whether training `model` runs layers again in the backward pass instead of storing activations."""
    return model.training and any(vars(module).get(_CHECKPOINTED, False) for module in model.modules())


class FastFunctions(TorchFunctionMode):
    """Context manager that replaces dropout and attention of CPU tensors by those of this package."""

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
            if arguments.get("training", True) and p > 0.0 and is_supported(arguments["input"]):
                return dropout(arguments["input"], p)
        elif func is F.scaled_dot_product_attention and is_slow_in_torch(args, kwargs):
            return attention(
                *args, **{name: kwargs[name] for name in kwargs if name not in ("is_causal", "enable_gqa")}
            )
        return func(*args, **kwargs)
