"""Omits attention masks that hide no position.

transformers inspects a mask on the GPU, which makes the CPU wait. Only classes of transformers whose mask has a default
value run without one, because custom model code may require a mask.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn


def needed_inputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `inputs` without `attention_mask` if it hides no position and the model does not require one.

    A mask that is not on the CPU is kept, because inspecting it would require waiting for its device.

    Args:
        model: The model that will receive the inputs.
        inputs: Arguments of the model by name; `attention_mask` is [B, T].

    Returns:
        The arguments to pass to the model.
    """
    mask, model_class = inputs.get("attention_mask"), cast(Any, type(model))
    if mask is None or mask.device.type != "cpu" or not bool(mask.all()) or _demands_mask(model_class):
        return dict(inputs)
    return {name: tensor for name, tensor in inputs.items() if name != "attention_mask"}


@functools.cache
def _demands_mask(model_class: Any) -> bool:
    """Return whether models of this class require an attention mask even for a batch without padding."""
    if not model_class.__module__.startswith("transformers.models."):
        return True
    parameter = inspect.signature(model_class.forward).parameters.get("attention_mask")
    return parameter is None or parameter.default is inspect.Parameter.empty
