"""Computes the similarity of two maskings (overlap, rank correlation) and the entropy of a masking."""

from collections.abc import Sequence

import numpy as np

from nmg.base.types import FloatArray, IntArray
from nmg.inspection.draws import Observed, View
from nmg.inspection.tokens import TokenTable


def overlap(first: FloatArray, second: FloatArray, budget: IntArray) -> float:
    """Return the expected share of the masked tokens that two independent plans have in common, from 0 to 1.

    Args:
        first: float [N]: probability that the first masking masks each token.
        second: float [N]: probability that the second masking masks each token.
        budget: int [B]: number of masked tokens per block.

    Returns:
        The share; 0 if the budget is 0.
    """
    return float(first @ second) / max(int(budget.sum()), 1)


def chance_overlap(sizes: IntArray, budget: IntArray) -> float:
    """Return the `overlap` of two uniformly random plans, which share k/n of their k tokens in a block of n tokens.

    `sizes` (n) and `budget` (k) are int [B].
    """
    return float((budget**2 / np.maximum(sizes, 1)).sum()) / max(int(budget.sum()), 1)


def rank_correlation(first: FloatArray, second: FloatArray, table: TokenTable) -> float:
    """Return Spearman's ρ of two columns within each block, averaged over blocks.

    Args:
        first: float [N]: one value per token.
        second: float [N]: one value per token.
        table: The tokens and their blocks.

    Returns:
        The mean over the blocks in which neither column is constant; NaN if there is no such block.
    """
    return _mean_product(unit_ranks(first, table), unit_ranks(second, table), table)


def unit_ranks(column: FloatArray, table: TokenTable) -> FloatArray:
    """Return float [N]: ranks of a column [N] within each block, scaled to mean 0 and norm 1.

    Equal values share their mean rank. The product of two such columns, summed over a block, is Spearman's ρ. The
    ranks are all 0 in a block in which the column is constant.
    """
    order = np.lexsort((column, table.block))
    ties = np.cumsum((np.diff(column[order], prepend=np.nan) != 0) | (table.place == 0)) - 1
    rank = np.empty(len(column))
    rank[order] = (np.bincount(ties, weights=table.place) / np.bincount(ties))[ties]
    centred = rank - ((table.sizes - 1) / 2)[table.block]
    norm = np.sqrt(np.bincount(table.block, weights=centred**2, minlength=table.n_blocks))
    unit: FloatArray = centred / np.where(norm > 0, norm, 1)[table.block]
    return unit


def _mean_product(first: FloatArray, second: FloatArray, table: TokenTable) -> float:
    """Return the mean of ρ over blocks in which neither column of `unit_ranks` is constant; NaN if there are none."""
    of_block = np.bincount(table.block, weights=first * second, minlength=table.n_blocks)
    has_both = np.ones(table.n_blocks, dtype=np.bool_)
    for column in (first, second):
        has_both &= np.bincount(table.block, weights=np.abs(column), minlength=table.n_blocks) > 0
    return float(of_block[has_both].mean()) if has_both.any() else float("nan")


def entropies(weights: FloatArray, table: TokenTable) -> FloatArray:
    """Return float64 [B]: entropy of each block's weights [N] in nats, after scaling them to sum to 1.

    The entropy is 0 for a block whose weights are all 0.
    """
    totals = np.bincount(table.block, weights=weights, minlength=table.n_blocks)
    share = weights / np.where(totals > 0, totals, 1)[table.block]
    terms = -share * np.log(np.where(share > 0, share, 1))
    return np.bincount(table.block, weights=terms, minlength=table.n_blocks).astype(np.float64)


def mean_entropy(of_block: FloatArray, sizes: IntArray) -> tuple[float, float]:
    """Return the mean entropy in nats, and the mean entropy as a share of its maximum ln n for n tokens.

    Blocks with fewer than two tokens are ignored; both values are 0 if no block remains. `of_block`: float [B], in
    nats; `sizes`: int [B], number of tokens.
    """
    is_open = sizes > 1
    if not is_open.any():
        return 0.0, 0.0
    kept = of_block[is_open]
    return float(kept.mean()), float((kept / np.log(sizes[is_open])).mean())


def overlap_matrix(views: Sequence[View], budget: IntArray) -> FloatArray:
    """Return float [V, V]: `overlap` of each pair of views; the diagonal compares two plans of the same view."""
    matrix = np.empty((len(views), len(views)))
    for i, one in enumerate(views):
        for j, other in enumerate(views):
            matrix[i, j] = one.own_overlap if i == j else overlap(one.inclusion, other.inclusion, budget)
    return matrix


def correlation_matrix(observed: Sequence[Observed], table: TokenTable) -> FloatArray:
    """Return float [M, M]: `rank_correlation` of each pair of maskings."""
    ranks = [unit_ranks(one.order, table) for one in observed]
    return np.array([[_mean_product(first, second, table) for second in ranks] for first in ranks])
