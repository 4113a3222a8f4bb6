"""Gradient checkpointing: stores the inputs of layers only, and runs the layers again in the backward pass.

This saves most of the memory of activations and costs one more forward pass (Chen et al., arXiv 1604.06174). Loss and
gradients are the same, because the layers run again with the same random state and the same dropout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from nmg.base.errors import UserError
from nmg.training.fast.functions import functions_again, is_checkpointed
from nmg.training.fast.positions import last_attention
from nmg.training.runtime import Runtime


@contextmanager
def gradient_checkpointing(model: nn.Module, runtime: Runtime) -> Iterator[None]:
    """Checkpoint the layers of a transformers model within the context if `runtime.gradient_checkpointing` is set.

    The last layer is not checkpointed if it computes only some positions (`fast.positions`): it stores little then, and
    the backward pass would run it for all positions. A model whose checkpointing is already on is left unchanged.

    Args:
        model: The model, in training mode.
        runtime: Runtime of the training run.

    Raises:
        UserError: If the model does not support it.
    """
    if not runtime.gradient_checkpointing or is_checkpointed(model):
        yield
        return
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    if not getattr(model, "supports_gradient_checkpointing", False) or not layers:
        raise UserError(
            f"runtime.gradient_checkpointing: {type(model).__name__} does not support it: set it to false, and lower "
            "runtime.micro_batch_size if memory is short"
        )
    attention: Any = last_attention(model)
    run_again = partial(checkpoint, use_reentrant=False)
    if runtime.device.type == "cpu":
        run_again = partial(run_again, context_fn=functions_again)
    for layer in layers:
        layer._gradient_checkpointing_func = run_again
        layer.gradient_checkpointing = attention is None or getattr(layer, "attention", None) is not attention
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = False
