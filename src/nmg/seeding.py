"""Named random streams.

No code in this package touches a global seed. A stream is named by the run's seed and a path of names, e.g.
`stream(seed, "episode", 7, "head")`; the same name always gives the same numbers, whatever ran before it. Two players
of an episode that must see the same randomness simply ask for the same name, and a resumed run needs no stored state.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on every name and on their order."""
    path = "/".join(f"{type(name).__name__}:{name}" for name in (seed, *names))
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The NumPy generator of that name."""
    return np.random.default_rng(stream_seed(seed, *names))


@contextmanager
def torch_stream(seed: int, *names: str | int) -> Iterator[None]:
    """Run a block under torch's generators seeded by name, and leave them as they were.

    Dropout and weight initialisation draw from torch's global generators; there is no way to hand them another one.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(stream_seed(seed, *names))
        yield


@dataclass(frozen=True)
class StreamName:
    """A name that is handed down: `StreamName(seed) / "episode" / 7`, then `.generator()` or `with name.torch():`."""

    seed: int
    path: tuple[str | int, ...] = ()

    def __truediv__(self, name: str | int) -> "StreamName":
        return StreamName(self.seed, (*self.path, name))

    def generator(self) -> np.random.Generator:
        return stream(self.seed, *self.path)

    def torch(self) -> AbstractContextManager[None]:
        return torch_stream(self.seed, *self.path)
