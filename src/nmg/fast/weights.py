"""The weights that the optimiser steps, and the weights that the model computes with.

In fp32 they are the same. In bf16 the model computes with rounded copies while the optimiser steps fp32 masters
(Micikevicius et al., arXiv 1710.03740). Autocast alone would round the same weights at every step, and, since it keeps
normalisation and residuals in fp32, cast every activation back and forth: on a CPU a quarter of a step.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Fp32Weights:
    """The parameters are their own masters."""

    def __init__(self, trained: Sequence[nn.Parameter]) -> None:
        self.masters = trained

    def collect_gradients(self) -> None:
        """Give the masters the gradients of a backward pass."""

    def publish(self) -> None:
        """Give the model what the masters have become."""


class Bf16Weights(Fp32Weights):
    """Masters of parameters that the model holds in bf16."""

    def __init__(self, trained: Sequence[nn.Parameter], originals: dict[nn.Parameter, Tensor]) -> None:
        # What stays fp32 in the model is its own master.
        self._pairs = [(p, nn.Parameter(originals[p])) for p in trained if p in originals]
        master_of = dict(self._pairs)
        super().__init__([master_of.get(p, p) for p in trained])

    def collect_gradients(self) -> None:
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
        rounded, masters = [p.data for p, _ in self._pairs], [m.data for _, m in self._pairs]
        if rounded:
            torch._foreach_copy_(rounded, masters)


@contextmanager
def training_weights(
    model: nn.Module, trained: Iterable[nn.Parameter], precision: str, device_type: str = "cpu"
) -> Iterator[Fp32Weights]:
    """Masters of `trained` for one training; after it the model is fp32 again and holds the trained masters.

    Args:
        model: float32; it must run under autocast inside.
        trained: those of its parameters that are trained.
        precision: "fp32" or "bf16".
        device_type: where the model is. On a GPU autocast computes LayerNorm in fp32, so its weights stay fp32: rounded
            ones would cost casts, and at a learning rate of 2e-5 a gain near 1 would hardly ever be seen to move.

    Embeddings stay fp32: their gradients sum over all occurrences of a token, which 8 bits of mantissa would not hold.
    Only their output is rounded. So are no buffers; autocast, under which the model must still run, sees to
    whatever is then mixed.
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
    hooks = [module.register_forward_hook(_rounded) for module in embeddings]
    hooks += [module.register_forward_pre_hook(_as_its_weight) for module in norms]
    for parameter, original in originals.items():
        parameter.data = original.to(torch.bfloat16)
    try:
        yield Bf16Weights(trained, originals)
    finally:
        for hook in hooks:
            hook.remove()
        # A master shares its memory with the original it was made of.
        for parameter, original in originals.items():
            parameter.grad = None
            parameter.data = original


def _as_its_weight(norm: nn.LayerNorm, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """On CPUs autocast does not: DeBERTa normalises the (fp32) weights of its embeddings of distances."""
    states, *others = inputs
    return states.to(norm.weight.dtype), *others


def _rounded(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.to(torch.bfloat16)
