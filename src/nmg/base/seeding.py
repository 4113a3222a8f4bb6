"""Named random streams.

This package never uses a global seed. A stream is identified by the run's seed and a path of names, e.g.
`stream(seed, "episode", 7, "head")`. The same name always gives the same numbers, whatever ran before. Two players that
need the same randomness use the same name. A resumed run needs no stored generator state.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on the run's seed, on every name and on their order."""
    path = "/".join(f"{type(name).__name__}:{name}" for name in (seed, *names))
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the NumPy generator of the named stream."""
    return np.random.default_rng(stream_seed(seed, *names))


@contextmanager
def torch_stream(seed: int, *names: str | int) -> Iterator[None]:
    """Seed torch's global generators from the named stream inside the block and restore their state afterwards.

    Dropout and weight initialisation use these generators and accept no other.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(stream_seed(seed, *names))
        yield


@dataclass(frozen=True)
class StreamName:
    """The name of a random stream, extended with `/`: `StreamName(seed) / "episode" / 7`.

    `.generator()` returns its NumPy generator; `with name.torch():` seeds torch.
    """

    seed: int
    path: tuple[str | int, ...] = ()

    def __truediv__(self, name: str | int) -> "StreamName":
        return StreamName(self.seed, (*self.path, name))

    def generator(self) -> np.random.Generator:
        """Return the NumPy generator of this stream."""
        return stream(self.seed, *self.path)

    def torch(self) -> AbstractContextManager[None]:
        """Return a context manager that seeds torch with this stream (`torch_stream`)."""
        return torch_stream(self.seed, *self.path)
