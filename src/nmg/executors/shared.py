"""Sends data shared by several jobs once per object instead of once per job.

For example, the weights of an LM are sent once per version, however many jobs start from them.
"""

import io
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Place = TypeVar("Place")
"""Location of a sent part that other processes can read, such as a file path."""


class SharedObjectStore(Generic[Place]):
    """Records which parts were sent for the last call, and their locations.

    Args:
        send: Stores the bytes of a part and returns its location.
        forget: Deletes a location that no call needs any more.
    """

    def __init__(self, send: Callable[[bytes], Place], forget: Callable[[Place], None]) -> None:
        self._send, self._forget = send, forget
        self._sent: list[tuple[Any, Place]] = []

    def places(self, parts: Sequence[Any]) -> list[Place]:
        """Return the location of each part.

        Parts of the last call are reused, and other parts are sent. Locations that are no longer used are passed to
        `forget`.
        """
        before, self._sent = self._sent, []
        for part in parts:
            known = next((place for known, place in before if known is part), None)
            self._sent.append((part, self._send(pack(part)) if known is None else known))
        places = [place for _, place in self._sent]
        for _, place in before:
            if place not in places:
                self._forget(place)
        return places


def split_shared(shared: Any) -> tuple[type | None, Sequence[Any]]:
    """Split a named tuple into its type and its fields. Any other object is returned as `(None, [object])`."""
    return (type(shared), shared) if hasattr(shared, "_fields") else (None, [shared])


def join_shared(whole: type | None, parts: Sequence[Any]) -> Any:
    """Rebuild an object from the type and the parts that `split_shared` returned."""
    return parts[0] if whole is None else whole(*parts)


def pack(value: Any) -> bytes:
    """Pickle a value for another process of this run, with every tensor moved to the CPU.

    The other process may not have the device of the tensor. Shared memory, the default of multiprocessing, is avoided
    because containers provide little of it.
    """
    file = io.BytesIO()
    _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Pickler that moves tensors to the CPU."""

    def reducer_override(self, value: Any) -> Any:
        """Replace a tensor on another device by a copy on the CPU."""
        torch = sys.modules.get("torch")  # if torch is not loaded, there are no tensors; do not import it here
        if torch is None or not isinstance(value, torch.Tensor) or value.device.type == "cpu":
            return NotImplemented
        copy = value.detach().cpu()
        if isinstance(value, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, value.requires_grad)
        return copy.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
