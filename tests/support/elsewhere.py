"""A tensor that says it is on a GPU, on a machine that has none."""

from typing import Any

import torch
from torch import Tensor


class OnGpu(Tensor):
    """Its values are on the CPU; all that it can do is to be copied there."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "OnGpu":
        made: OnGpu = Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype, device="cuda:0")
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return OnGpu(args[0].values)
        if func is torch.ops.aten._to_copy.default and str((kwargs or {}).get("device")) == "cpu":
            return args[0].values.clone()
        raise NotImplementedError(f"{func} on a GPU")
