"""Forward passes over many rows. The number of rows per pass is halved if memory runs out."""

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from nmg.base.errors import UserError

Result = TypeVar("Result")
"""Result of one pass."""


def in_passes(n_rows: int, at_once: int, read: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
    """Read `n_rows` rows in order, in several passes.

    Args:
        n_rows: Number of rows.
        at_once: Rows per pass. It is halved whenever GPU memory runs out.
        read: Function from a slice of rows to any result. If it runs out of memory, it is called again with fewer rows.

    Yields:
        The slice of rows of each pass, and its result.

    Raises:
        UserError: If a single row does not fit into memory.
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
                    "out of GPU memory while reading a single text: use shorter texts (adapt.block_size, "
                    "finetune.max_length) or a smaller model"
                ) from error
        else:
            yield rows, found
            first = rows.stop
            continue
        # Outside the handler, because the exception keeps the tensors of the failed pass alive.
        torch.cuda.empty_cache()
        warnings.warn(
            f"out of GPU memory: from now on, texts are read {at_once} rows at a time. Set "
            f"runtime.evaluation_batch_size {at_once} to start with that size.",
            stacklevel=3,
        )
