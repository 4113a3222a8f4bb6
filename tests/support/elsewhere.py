"""Tensors that say they are on another device, on a machine that has none."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


class OnDevice(Tensor):
    """Computes on the CPU, and says it is on a device that has no float64, as an Apple GPU is.

    A float64 tensor there is an error, and so is an operation that mixes devices; `cpu()` gives a plain tensor.
    """

    values: Tensor
    name = "mps"

    @staticmethod
    def __new__(cls, values: Tensor) -> "OnDevice":
        made: OnDevice = Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype, device=cls.name)
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.aten._to_copy.default and str(kwargs.get("device")) == "cpu":
            return args[0].values.to(dtype=kwargs.get("dtype"), copy=True)
        kwargs.pop("device", None)
        plain = [a for a in args if isinstance(a, Tensor) and not isinstance(a, cls) and a.ndim]
        if plain:
            raise RuntimeError(f"{func} mixes devices")
        made = func(*tree_map(cls._taken, args), **tree_map(cls._taken, kwargs))
        return tree_map(cls._put, made)

    @classmethod
    def _taken(cls, value: Any) -> Any:
        return value.values if isinstance(value, cls) else value

    @classmethod
    def _put(cls, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.dtype == torch.float64:
            raise TypeError("this device has no float64")
        return cls(value)


class OnGpu(OnDevice):
    name = "cuda:0"


class Reachable(TorchFunctionMode):
    """Inside of it a tensor can be sent to the device of `OnDevice`, and chosen from there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.to and isinstance(args[1], torch.device) and args[1].type == OnDevice.name:
            return args[0] if isinstance(args[0], OnDevice) else OnDevice(args[0])
        if func is Tensor.__getitem__ and isinstance(args[0], OnDevice):  # torch would ask for a driver
            return OnDevice(args[0].values[tree_map(OnDevice._taken, args[1])])
        return func(*args, **(kwargs or {}))
