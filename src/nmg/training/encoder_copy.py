"""Builds a task model around a copy of an LM's encoder.

Only the head is initialised randomly, and the encoder's weights are copied on their device.

Building the model as usual would initialise the whole encoder on the CPU and then overwrite it. For BERT-base, this
takes one second in every inner loop.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def with_encoder_of(lm: PreTrainedModel, new_model: Callable[[], PreTrainedModel], *, whole: bool) -> PreTrainedModel:
    """Build a task model whose encoder has the weights of `lm`, on the device of `lm`.

    Args:
        lm: Float32 LM. It shares no memory with the result.
        new_model: Builds the model on torch's default device, with random weights from torch's generator.
        whole: Whether to initialise the encoder, too, before it is overwritten. Custom model code may not support
            building a model without values.

    Returns:
        The task model.

    Raises:
        ValueError: If the LM lacks encoder weights. Pooler weights may be missing and are then initialised randomly.
    """
    model = _without_values(lm, new_model) if not whole else None
    if model is None:
        model = new_model()
        _check(model.base_model.load_state_dict(lm.base_model.state_dict(), strict=False).missing_keys)
    return model.to(lm.device)


def _check(missing: list[str]) -> None:
    """Raise ValueError if weights other than those of a pooler are missing."""
    strays = [name for name in missing if not name.startswith("pooler.")]
    if strays:
        raise ValueError(f"the LM lacks weights of the task model's encoder: {', '.join(strays[:5])}")


@torch.no_grad()
def _without_values(lm: PreTrainedModel, new_model: Callable[[], PreTrainedModel]) -> PreTrainedModel | None:
    """Build the model on the meta device, and give its tensors values.

    Returns None if a tensor is neither a parameter nor a buffer, because such tensors cannot be filled.
    """
    with torch.device("meta"):
        model = new_model()
    model.train(lm.training)
    encoder = model.base_model
    used, held = encoder.state_dict().keys(), lm.base_model.state_dict()
    copies = {name: held[name].detach().clone() for name in used if name in held}
    _check(encoder.load_state_dict(copies, strict=False, assign=True).missing_keys)
    model.tie_weights()  # assignment by name separates weights that encoder and decoder share (BART)
    buffers = dict(lm.base_model.named_buffers())
    for name, buffer in list(encoder.named_buffers()):
        if buffer.is_meta and name in buffers:  # buffers that are not in checkpoints, such as position ids
            owner, _, leaf = name.rpartition(".")
            encoder.get_submodule(owner)._buffers[leaf] = buffers[name].clone()
    _draw_the_rest(model)
    return None if any(_loose_tensors(model)) else model


def _draw_the_rest(model: PreTrainedModel) -> None:
    """Initialise tensors without values as transformers does, inner modules first.

    All other tensors are left unchanged.
    """
    given = [tensor for tensor in (*model.parameters(), *model.buffers()) if not tensor.is_meta]
    for tensor in given:
        tensor._is_hf_initialized = True  # tells transformers not to initialise it
    encoder = set(model.base_model.modules())
    for module in _inside_out(model):
        is_empty = any(tensor.is_meta for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)))
        if is_empty:
            module.to_empty(device="cpu", recurse=False)
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        if is_empty or module not in encoder:
            model._init_weights(module)
    for tensor in given:
        del tensor._is_hf_initialized


def _inside_out(module: nn.Module) -> Iterator[nn.Module]:
    """Yield all modules, inner modules first."""
    for child in module.children():
        yield from _inside_out(child)
    yield module


def _loose_tensors(model: nn.Module) -> Iterator[bool]:
    """Yield, for each tensor attribute of each module, whether it has no values."""
    for module in model.modules():
        kept = [*module._parameters.values(), *module._buffers.values(), *vars(module).values()]
        yield from (isinstance(tensor, Tensor) and tensor.is_meta for tensor in kept)
