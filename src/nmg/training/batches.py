"""Divides an epoch into batches of rows of similar length: with as many rows, or with as many tokens, in each."""

import numpy as np

from nmg.base.training_settings import AdaptSettings
from nmg.base.types import IntArray

POOL_BATCHES = 32
"""Number of batches sorted by length together: enough to reduce padding, few enough to keep epochs well mixed."""


def bucketed_batches(
    lengths: IntArray, batch_size: int, rng: np.random.Generator, rows: IntArray | None = None
) -> list[IntArray]:
    """Divide one epoch into batches of rows of similar length, in random order. Each row occurs once.

    Rows are shuffled, sorted by length within pools of `POOL_BATCHES` batches, and cut into batches. The batches are
    then shuffled.

    Args:
        lengths: int [F]: length of each row.
        batch_size: Rows per batch; the last batch of a pool may have fewer.
        rng: Random generator.
        rows: int [E]: row numbers of the epoch; all rows if None.

    Returns:
        Row numbers of each batch, int [B].
    """
    order = rng.permutation(len(lengths) if rows is None else rows)
    pool = batch_size * POOL_BATCHES
    batches: list[IntArray] = []
    for start in range(0, len(order), pool):
        pooled = order[start : start + pool]
        pooled = pooled[np.argsort(lengths[pooled], kind="stable")]
        batches.extend(pooled[first : first + batch_size] for first in range(0, len(pooled), batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]


def joined_batches(
    lengths: IntArray, n_batches: int, rng: np.random.Generator, rows: IntArray | None = None
) -> list[IntArray]:
    """Divide one epoch into `n_batches` batches of about as many tokens each, in random order. Each row occurs once.

    As in `bucketed_batches`, the rows of a batch have similar lengths. A batch has at most as many tokens as the mean
    batch and the longest row together, for an `n_batches` from `batches_per_epoch`.

    Args:
        lengths: int [F]: tokens of each row.
        n_batches: Number of batches, at most the number of rows.
        rng: Random generator.
        rows: int [E]: row numbers of the epoch; all rows if None.

    Returns:
        Row numbers of each batch, int [B], at least one.
    """
    order = rng.permutation(len(lengths) if rows is None else rows)
    ends = equal_parts(lengths[order], n_batches)
    batches: list[IntArray] = []
    for first in range(0, n_batches, POOL_BATCHES):
        last = min(first + POOL_BATCHES, n_batches)
        pooled = order[ends[first] : ends[last]]
        pooled = pooled[np.argsort(lengths[pooled], kind="stable")]
        batches.extend(np.split(pooled, equal_parts(lengths[pooled], last - first)[1:-1]))
    return [batches[i] for i in rng.permutation(len(batches))]


def batches_per_epoch(settings: AdaptSettings, lengths: IntArray) -> int:
    """Return the number of batches of an epoch of rows with these lengths, int [E].

    With `adapt.join_documents`, the mean batch has at most `batch_size` times `block_size` tokens, but at least as many
    as the longest row.
    """
    if not settings.join_documents:
        return -(-len(lengths) // settings.batch_size)
    n_tokens = int(lengths.sum())
    wanted = -(-n_tokens // (settings.batch_size * settings.block_size))
    return min(wanted, n_tokens // int(lengths.max(initial=1)))


def equal_parts(sizes: IntArray, n_parts: int) -> IntArray:
    """Return the ends of consecutive parts with about the same total size, after a leading 0.

    An element belongs to the part in which its middle is, unless a part would then be empty.

    >>> equal_parts(np.array([5, 1, 1, 1, 4]), 3).tolist()
    [0, 1, 4, 5]

    Args:
        sizes: int [N]: size of each element.
        n_parts: Number of parts, at most N.

    Returns:
        int64 [n_parts + 1], strictly increasing from 0 to N.
    """
    part = np.arange(n_parts + 1)
    middles = np.cumsum(sizes) - sizes / 2
    ends = np.searchsorted(middles, part * sizes.sum() / max(n_parts, 1))
    ends = np.maximum.accumulate(ends - part) + part
    found: IntArray = np.minimum(ends, len(sizes) - n_parts + part)
    return found
