"""Rows in passes through a model that only reads: half as many rows a pass from where memory runs out."""

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from nmg.errors import UserError

Result = TypeVar("Result")


def in_passes(n_rows: int, at_once: int, read: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
    """Read rows 0 to `n_rows`, in order; (rows of a pass, what `read` gave for them).

    Args:
        n_rows: how many there are.
        at_once: rows of a pass; fewer after the GPU's memory ran out.
        read: slice of rows → anything; it is called again for fewer rows if it runs out of memory.

    Raises:
        UserError: not even a single row fits into memory.
    """
    first = 0
    while first < n_rows:
        rows = slice(first, min(first + at_once, n_rows))
        try:
            found = read(rows)
        except torch.OutOfMemoryError as error:
            at_once = (rows.stop - rows.start) // 2
            if at_once == 0:
                raise UserError(
                    "out of GPU memory while reading a single text: use shorter ones (adapt.block_size, "
                    "finetune.max_length) or a smaller model"
                ) from error
        else:
            yield rows, found
            first = rows.stop
            continue
        # Not in the handler: the error keeps the tensors of the failed pass until it ends.
        torch.cuda.empty_cache()
        warnings.warn(
            f"out of GPU memory: texts are read {at_once} rows at a time from here on. To begin so, set "
            f"runtime.evaluation_batch_size {at_once}.",
            stacklevel=3,
        )
