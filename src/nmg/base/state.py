"""The state of a part of a training, as a checkpoint stores it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Everything that a part of a training needs to continue to the bit."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """Name → tensor on any device. It may share memory with the training, so store it before the next step."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further values, which JSON can store exactly."""


class Resumable(Protocol):
    """A part of a training with a state."""

    def state(self) -> State:
        """Return the state after the last step."""
        ...

    def restore(self, state: State) -> None:
        """Continue from a state that a part of the same kind returned."""
        ...


class Stateless:
    """A part of a training that needs no state, because every training builds the same."""

    def state(self) -> State:
        """Return nothing."""
        return State()

    def restore(self, state: State) -> None:
        """Change nothing."""


def numbered(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return number → tensor, with numbers as text from '0'."""
    return {str(number): tensor for number, tensor in enumerate(tensors)}


def in_order(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the tensors of `numbered` in their order."""
    return [tensors[str(number)] for number in range(len(tensors))]


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """Return the state of a NumPy generator: names and whole numbers."""
    return dict(generator.bit_generator.state)


def restore_generator(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Make a generator continue from `generator_state`."""
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
    """Make torch's global generators continue from `torch_random_state`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
