"""Leave an attention mask out if it says nothing: transformers looks at it on the GPU, and the CPU has to wait.

A model's own Python may need a mask even then, so only classes of transformers, whose mask has a default, go without.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn


def needed_inputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`inputs` of `model`, without `attention_mask` [B, T] if it hides no position and the model needs none.

    A mask on another device than the CPU stays: to look at it would be to wait for that device.
    """
    mask, model_class = inputs.get("attention_mask"), cast(Any, type(model))
    if mask is None or mask.device.type != "cpu" or not bool(mask.all()) or _demands_mask(model_class):
        return dict(inputs)
    return {name: tensor for name, tensor in inputs.items() if name != "attention_mask"}


@functools.cache
def _demands_mask(model_class: Any) -> bool:
    """Whether models of this class must get an attention mask even for a batch without padding."""
    if not model_class.__module__.startswith("transformers.models."):
        return True
    parameter = inspect.signature(model_class.forward).parameters.get("attention_mask")
    return parameter is None or parameter.default is inspect.Parameter.empty
