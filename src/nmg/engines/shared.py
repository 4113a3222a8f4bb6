"""What all jobs of a call share travels in parts, each sent once for as long as it stays the same object.

So an LM's weights travel once a version, however many jobs start from them.
"""

import io
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Place = TypeVar("Place")
"""where a part was sent, as other processes find it"""


class Sent(Generic[Place]):
    """The parts of the last call, and their places.

    Args:
        send: bytes of a part → its place.
        forget: a place that no call needs any more.
    """

    def __init__(self, send: Callable[[bytes], Place], forget: Callable[[Place], None]) -> None:
        self._send, self._forget = send, forget
        self._sent: list[tuple[Any, Place]] = []

    def places(self, parts: Sequence[Any]) -> list[Place]:
        """Of each part; it is sent if it was not there in the last call."""
        before, self._sent = self._sent, []
        for part in parts:
            known = next((place for known, place in before if known is part), None)
            self._sent.append((part, self._send(pack(part)) if known is None else known))
        places = [place for _, place in self._sent]
        for _, place in before:
            if place not in places:
                self._forget(place)
        return places


def take_apart(shared: Any) -> tuple[type | None, Sequence[Any]]:
    """The type of a named tuple, and its parts; of anything else, itself alone."""
    return (type(shared), shared) if hasattr(shared, "_fields") else (None, [shared])


def put_together(whole: type | None, parts: Sequence[Any]) -> Any:
    return parts[0] if whole is None else whole(*parts)


def pack(value: Any) -> bytes:
    """Bytes for another of our own processes, with every tensor on the CPU: that process may have no such device.

    Left to itself, multiprocessing would hand tensors over in shared memory, of which containers have little.
    """
    file = io.BytesIO()
    _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")  # without torch there is no tensor, and a worker must not load it for this
        if torch is None or not isinstance(value, torch.Tensor) or value.device.type == "cpu":
            return NotImplemented
        copy = value.detach().cpu()
        if isinstance(value, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, value.requires_grad)
        return copy.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
