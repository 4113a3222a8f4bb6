"""The state of a part of a training run, as a checkpoint stores it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Everything that a part of a training run needs to continue with bit-identical results."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """Name → tensor on any device. It may share memory with the training run, so store it before the next step."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further values, which JSON can store exactly."""


class Resumable(Protocol):
    """A part of a training run whose state can be stored and restored."""

    def state(self) -> State:
        """Return the state after the last step."""
        ...

    def restore(self, state: State) -> None:
        """Restore a state that an object of the same class returned."""
        ...


class Stateless:
    """A part of a training run that is the same in every run and therefore needs no state."""

    def state(self) -> State:
        """Return an empty state."""
        return State()

    def restore(self, state: State) -> None:
        """Do nothing."""


def numbered(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the tensors as a dictionary with the keys '0', '1', …"""
    return {str(number): tensor for number, tensor in enumerate(tensors)}


def in_order(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the tensors of a dictionary from `numbered`, in their original order."""
    return [tensors[str(number)] for number in range(len(tensors))]


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """Return the state of a NumPy generator: names and whole numbers."""
    return dict(generator.bit_generator.state)


def restore_generator(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Set a NumPy generator to a state that `generator_state` returned."""
    generator.bit_generator.state = dict(state)


def torch_random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's global generators of the CPU and of `device`: uint8 tensors by type of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_torch_random(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Set torch's global generators to states that `torch_random_state` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
