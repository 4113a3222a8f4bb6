"""How alike two maskings are, and how decided each one is."""

from collections.abc import Sequence

import numpy as np

from nmg.inspection.draws import Observed, View
from nmg.inspection.tokens import TokenTable
from nmg.types import FloatArray, IntArray


def overlap(first: FloatArray, second: FloatArray, budget: IntArray) -> float:
    """Share of the masked tokens that two independent plans have in common, in the mean over all masked tokens.

    Args:
        first, second: [N] probability that each masking masks a token; they draw independently.
        budget: [B] masked tokens of each block.
    """
    return float(first @ second) / max(int(budget.sum()), 1)


def chance_overlap(sizes: IntArray, budget: IntArray) -> float:
    """`overlap` where neither plan knows of the other: of k tokens out of n, k/n are in both. Arguments [B]."""
    return float((budget**2 / np.maximum(sizes, 1)).sum()) / max(int(budget.sum()), 1)


def rank_correlation(first: FloatArray, second: FloatArray, table: TokenTable) -> float:
    """Spearman's ρ of two columns [N] within each block, in the mean over blocks; NaN where no block has one."""
    return _mean_product(unit_ranks(first, table), unit_ranks(second, table), table)


def unit_ranks(column: FloatArray, table: TokenTable) -> FloatArray:
    """[N] ranks of a column within each block, equal values sharing their mean rank, made to mean 0 and norm 1.

    The sum over a block of the product of two such columns is Spearman's ρ. All 0 in a block where the column is
    constant: it has no order to compare.
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
    """Mean of ρ over the blocks where both columns have an order, for two columns of `unit_ranks`."""
    of_block = np.bincount(table.block, weights=first * second, minlength=table.n_blocks)
    has_both = np.ones(table.n_blocks, dtype=np.bool_)
    for column in (first, second):
        has_both &= np.bincount(table.block, weights=np.abs(column), minlength=table.n_blocks) > 0
    return float(of_block[has_both].mean()) if has_both.any() else float("nan")


def entropies(weights: FloatArray, table: TokenTable) -> FloatArray:
    """[B] entropy in nats of each block's weights [N], made to sum to 1; 0 for a block of no weight."""
    totals = np.bincount(table.block, weights=weights, minlength=table.n_blocks)
    share = weights / np.where(totals > 0, totals, 1)[table.block]
    terms = -share * np.log(np.where(share > 0, share, 1))
    return np.bincount(table.block, weights=terms, minlength=table.n_blocks).astype(np.float64)


def mean_entropy(of_block: FloatArray, sizes: IntArray) -> tuple[float, float]:
    """Mean over blocks of two tokens or more: in nats, and as a share of ln n, the most that n tokens allow."""
    is_open = sizes > 1
    if not is_open.any():
        return 0.0, 0.0
    kept = of_block[is_open]
    return float(kept.mean()), float((kept / np.log(sizes[is_open])).mean())


def overlap_matrix(views: Sequence[View], budget: IntArray) -> FloatArray:
    """[V, V] `overlap` of each pair of views; on the diagonal of two plans of the same one."""
    matrix = np.empty((len(views), len(views)))
    for i, one in enumerate(views):
        for j, other in enumerate(views):
            matrix[i, j] = one.own_overlap if i == j else overlap(one.inclusion, other.inclusion, budget)
    return matrix


def correlation_matrix(observed: Sequence[Observed], table: TokenTable) -> FloatArray:
    """[M, M] `rank_correlation` of each pair of maskings."""
    ranks = [unit_ranks(one.order, table) for one in observed]
    return np.array([[_mean_product(first, second, table) for second in ranks] for first in ranks])
