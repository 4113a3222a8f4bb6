"""Separates the weights that the optimiser updates from the weights that the model computes with.

In fp32 they are the same. In bf16 and fp16 the model computes with rounded copies; the optimiser updates fp32 master
weights (Micikevicius et al., arXiv 1710.03740). Autocast alone would round the same weights at every step. Because it
keeps normalisation and residuals in fp32, it would also cast every activation back and forth. On a CPU, this takes a
quarter of a step.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nmg.training.runtime import HALF, Precision


class Fp32Weights:
    """Weights for training in fp32: the parameters are their own master weights."""

    def __init__(self, trained: Sequence[nn.Parameter]) -> None:
        self.masters = trained

    def collect_gradients(self) -> None:
        """Move the gradients of a backward pass to the master weights.

        Does nothing here: the parameters are the master weights.
        """

    def publish(self) -> None:
        """Copy the updated master weights to the model. Does nothing here."""


class RoundedWeights(Fp32Weights):
    """Fp32 master weights of parameters that the model holds in bf16 or fp16."""

    def __init__(self, trained: Sequence[nn.Parameter], originals: dict[nn.Parameter, Tensor]) -> None:
        # Parameters that stay fp32 in the model are their own master weights.
        self._pairs = [(p, nn.Parameter(originals[p])) for p in trained if p in originals]
        master_of = dict(self._pairs)
        super().__init__([master_of.get(p, p) for p in trained])

    def collect_gradients(self) -> None:
        """Convert the rounded gradients of the model to fp32 gradients of the master weights."""
        rounded: list[Tensor] = []
        gradients: list[Tensor] = []
        for parameter, master in self._pairs:
            master.grad = None if parameter.grad is None else torch.empty_like(master)
            if parameter.grad is not None and master.grad is not None:
                rounded.append(parameter.grad)
                gradients.append(master.grad)
            parameter.grad = None
        if rounded:
            torch._foreach_copy_(gradients, rounded)

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the updated master weights to the model, rounded."""
        rounded, masters = [p.data for p, _ in self._pairs], [m.data for _, m in self._pairs]
        if rounded:
            torch._foreach_copy_(rounded, masters)


@contextmanager
def training_weights(
    model: nn.Module, trained: Iterable[nn.Parameter], precision: Precision, device_type: str = "cpu"
) -> Iterator[Fp32Weights]:
    """Provide master weights of `trained` for one training run.

    On exit, the model is fp32 again and holds the trained values.

    Embeddings stay fp32 and only their output is rounded. Their gradients sum over all occurrences of a token, for
    which 8 bits of mantissa are too few. Buffers are not rounded; autocast handles operations on mixed dtypes.

    Args:
        model: Float32 model. It must run under autocast within this context.
        trained: Parameters of the model to train.
        precision: Number format of the model's weights.
        device_type: Device type of the model. On a GPU, LayerNorm weights stay fp32 because autocast computes LayerNorm
            in fp32. Rounded weights would need casts, and at a learning rate of 2e-5 a gain near 1 would rarely change.

    Yields:
        The master weights, which the optimiser updates.
    """
    trained = list(trained)
    if precision == "fp32":
        yield Fp32Weights(trained)
        return
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm) and module.weight is not None]
    exact: list[nn.Module] = [*embeddings]
    if device_type != "cpu":
        exact, norms = [*embeddings, *norms], []
    kept = {parameter for module in exact for parameter in module.parameters()}
    originals = {p: p.data for p in model.parameters() if p not in kept and p.dtype == torch.float32}
    dtype = HALF[precision]
    hooks = [module.register_forward_hook(partial(_round_output, dtype)) for module in embeddings]
    hooks += [module.register_forward_pre_hook(_as_its_weight) for module in norms]
    for parameter, original in originals.items():
        parameter.data = original.to(dtype)
    try:
        yield RoundedWeights(trained, originals)
    finally:
        for hook in hooks:
            hook.remove()
        # Each master weight shares memory with the original parameter.
        for parameter, original in originals.items():
            parameter.grad = None
            parameter.data = original


def _as_its_weight(norm: nn.LayerNorm, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cast the input of a LayerNorm to the dtype of its weight, which autocast does not do on CPUs.

    DeBERTa normalises the fp32 weights of its relative position embeddings.
    """
    states, *others = inputs
    return states.to(norm.weight.dtype), *others


def _round_output(dtype: torch.dtype, _module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Return the output of an embedding, rounded to `dtype` (a forward hook)."""
    return output.to(dtype)
