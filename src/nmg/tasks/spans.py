"""Exact search for the best answer span of a row."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nmg.base.types import FloatArray, IntArray


class Spans(NamedTuple):
    """The best span of each row, [F]: its score, first column and last column (inclusive)."""

    score: FloatArray
    first: IntArray
    last: IntArray


def best_spans(start_logits: Tensor, end_logits: Tensor, is_allowed: Tensor, max_length: int) -> Spans:
    """Find the span with the highest sum of start and end logit in each row.

    The search is exact: it takes a sliding maximum over the ends of each start, not a list of n best starts and ends.

    Args:
        start_logits: float [F, T].
        end_logits: float [F, T].
        is_allowed: bool [F, T]: True in columns where a span may start or end.
        max_length: Maximum number of tokens of a span.

    Returns:
        The spans; the score is −inf in a row without an allowed column.
    """
    starts = start_logits.double().masked_fill(~is_allowed, -torch.inf)
    ends = end_logits.double().masked_fill(~is_allowed, -torch.inf)
    ends = torch.nn.functional.pad(ends, (0, max_length - 1), value=-torch.inf)
    best_end, last = torch.max_pool1d_with_indices(ends.unsqueeze(1), kernel_size=max_length, stride=1)
    totals = (starts + best_end.squeeze(1)).numpy()
    first = totals.argmax(axis=1)
    rows = np.arange(len(totals))
    return Spans(totals[rows, first], first, last.squeeze(1).numpy()[rows, first])
