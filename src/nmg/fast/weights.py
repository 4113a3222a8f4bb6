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
        for rounded, master in self._pairs:
            master.grad = None if rounded.grad is None else rounded.grad.float()
            rounded.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        rounded, masters = [p.data for p, _ in self._pairs], [m.data for _, m in self._pairs]
        if rounded:
            torch._foreach_copy_(rounded, masters)


@contextmanager
def training_weights(model: nn.Module, trained: Iterable[nn.Parameter], precision: str) -> Iterator[Fp32Weights]:
    """Masters of `trained` for one training; behind it the model is fp32 again and holds the trained masters.

    Embeddings stay fp32: their gradients sum over all occurrences of a token, which 8 bits of mantissa would not hold.
    Only their output is rounded. So are no buffers; autocast, under which the model must still run, sees to
    whatever is then mixed.
    """
    trained = list(trained)
    if precision == "fp32":
        yield Fp32Weights(trained)
        return
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    kept = {parameter for module in embeddings for parameter in module.parameters()}
    originals = {p: p.data for p in model.parameters() if p not in kept and p.dtype == torch.float32}
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm) and module.weight is not None]
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
