"""A task model around a copy of an LM's encoder: only its head is drawn, and nothing passes through the CPU.

To build the model as usual would draw weights for the whole encoder, on the CPU, only to overwrite them: a second for
BERT-base, in every inner loop.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def with_encoder_of(lm: PreTrainedModel, new_model: Callable[[], PreTrainedModel], *, whole: bool) -> PreTrainedModel:
    """The model that `new_model` makes, with the encoder's weights from `lm`, on its device.

    Args:
        lm: float32; it shares no memory with the result.
        new_model: builds the model where torch's default device is; its weights come from torch's generator.
        whole: draw the encoder, too, before it is overwritten: Python that comes with a model may not know how to build
            one without values.

    Raises:
        ValueError: the LM lacks weights of the encoder, other than those of a pooler, which are drawn.
    """
    model = _without_values(lm, new_model) if not whole else None
    if model is None:
        model = new_model()
        _check(model.base_model.load_state_dict(lm.base_model.state_dict(), strict=False).missing_keys)
    return model.to(lm.device)


def _check(missing: list[str]) -> None:
    strays = [name for name in missing if not name.startswith("pooler.")]
    if strays:
        raise ValueError(f"the LM lacks weights of the task model's encoder: {', '.join(strays[:5])}")


@torch.no_grad()
def _without_values(lm: PreTrainedModel, new_model: Callable[[], PreTrainedModel]) -> PreTrainedModel | None:
    """The model, built without values first; None if some of its tensors are in neither parameters nor buffers."""
    with torch.device("meta"):
        model = new_model()
    model.train(lm.training)
    encoder = model.base_model
    used, held = encoder.state_dict().keys(), lm.base_model.state_dict()
    copies = {name: held[name].detach().clone() for name in used if name in held}
    _check(encoder.load_state_dict(copies, strict=False, assign=True).missing_keys)
    model.tie_weights()  # of an encoder and a decoder, as BART's; assigned by name, they would be separate
    buffers = dict(lm.base_model.named_buffers())
    for name, buffer in list(encoder.named_buffers()):
        if buffer.is_meta and name in buffers:  # those that no checkpoint holds, such as the numbers of positions
            owner, _, leaf = name.rpartition(".")
            encoder.get_submodule(owner)._buffers[leaf] = buffers[name].clone()
    _draw_the_rest(model)
    return None if any(_loose_tensors(model)) else model


def _draw_the_rest(model: PreTrainedModel) -> None:
    """Draw what has no values yet as transformers does: modules within modules first; nothing else changes."""
    given = [tensor for tensor in (*model.parameters(), *model.buffers()) if not tensor.is_meta]
    for tensor in given:
        tensor._is_hf_initialized = True  # transformers' sign: it stays as it is
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
    for child in module.children():
        yield from _inside_out(child)
    yield module


def _loose_tensors(model: nn.Module) -> Iterator[bool]:
    """Of each tensor of the model, wherever it is kept: whether it has no values."""
    for module in model.modules():
        kept = [*module._parameters.values(), *module._buffers.values(), *vars(module).values()]
        yield from (isinstance(tensor, Tensor) and tensor.is_meta for tensor in kept)
