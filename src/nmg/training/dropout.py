"""Changes the dropout probability of a model for one training."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

FLOAT_NAMES = ("dropout", "attention_dropout")
"""Attributes in which transformers' attention modules keep their probability as a number (ESM, ModernBERT)."""


@contextmanager
def dropout_probability(model: nn.Module, p: float | None) -> Iterator[None]:
    """Use the dropout probability `p` everywhere in `model`, then restore each module's own.

    A model whose module does not exist because its probability was 0 keeps 0 there (ModernBERT's output dropout).

    Args:
        model: The model; its modules are changed in place.
        p: The probability; None changes nothing.
    """
    if p is None:
        yield
        return
    found = [(module, name) for module in model.modules() for name in _probabilities(module)]
    own = [getattr(module, name) for module, name in found]
    try:
        for module, name in found:
            setattr(module, name, p)
        yield
    finally:
        for (module, name), value in zip(found, own, strict=True):
            setattr(module, name, value)


def _probabilities(module: nn.Module) -> list[str]:
    """Return the names of the attributes of `module` that are a dropout probability."""
    if isinstance(module, nn.Dropout):
        return ["p"]
    return [name for name in FLOAT_NAMES if isinstance(getattr(module, name, None), float)]
