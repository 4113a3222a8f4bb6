"""Overlap against enumeration, ranks and entropies against scipy."""

import itertools

import numpy as np
import pytest
from scipy import stats

from nmg.base.seeding import stream
from nmg.base.types import FloatArray
from nmg.inspection import overlap
from nmg.inspection.draws import Observed, views_of
from nmg.inspection.tokens import TokenTable

from .helpers import drawn, flat_table


def test_chance_is_the_overlap_of_all_pairs_of_subsets():
    """Blocks of 4 and 3 tokens with 2 and 1 masked."""
    total, pairs = 0.0, 0
    for a, b in itertools.product(itertools.combinations(range(4), 2), repeat=2):
        for c, d in itertools.product(itertools.combinations(range(3), 1), repeat=2):
            total += len({*a} & {*b}) + len({*c} & {*d})
            pairs += 1
    sizes, budget = np.array([4, 3]), np.array([2, 1])
    assert overlap.chance_overlap(sizes, budget) == pytest.approx(total / pairs / 3)
    uniform = np.array([0.5] * 4 + [1 / 3] * 3)
    assert overlap.overlap(uniform, uniform, budget) == pytest.approx(total / pairs / 3)


def test_overlap_of_certain_choices():
    budget = np.array([2])
    first, second = np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])
    assert overlap.overlap(first, second, budget) == 0.5
    assert overlap.overlap(first, first, budget) == 1.0


def test_blocks_without_tokens_do_not_count():
    assert overlap.chance_overlap(np.array([0, 4]), np.array([0, 2])) == 0.5


def test_the_matrix_of_overlaps():
    taken = np.array([True, False, False, True])
    policy = Observed("p", "", 2, np.array([2, 0, 1, 1]), np.full(4, 0.5), taken)
    matrix = overlap.overlap_matrix(views_of([policy, drawn("r", 1, 1, 1, 1, draws=2)]), np.array([1, 1]))
    # p always draws the first token of block 0; its two draws in block 1 differ.
    assert matrix[0].tolist() == [0.5, 0.75, 0.5]
    assert matrix[1].tolist() == [0.75, 1.0, 0.5]
    assert matrix[2].tolist() == [0.5, 0.5, 0.0]


def columns(seed: int, table: TokenTable) -> tuple[FloatArray, FloatArray]:
    """With many ties."""
    rng = stream(seed, "test")
    first = rng.integers(0, 5, table.n_tokens).astype(float)
    return first, first + rng.integers(0, 4, table.n_tokens)


def test_rank_correlation_is_the_mean_of_those_of_blocks():
    table = flat_table(12, 1, 30, 2, 0, 17)
    first, second = columns(0, table)
    first[[43, 44]] = 1.0  # the block of two tokens is constant here: it has no order
    slow = [
        stats.spearmanr(a, b).statistic
        for a, b in zip(table.by_block(first), table.by_block(second), strict=True)
        if len(a) > 2
    ]
    assert len(slow) == 3
    assert overlap.rank_correlation(first, second, table) == pytest.approx(np.mean(slow))
    assert overlap.rank_correlation(second, first, table) == pytest.approx(np.mean(slow))


def test_a_masking_agrees_with_itself_and_not_with_its_opposite():
    table = flat_table(5, 9)
    first, _ = columns(1, table)
    assert overlap.rank_correlation(first, np.exp(first), table) == pytest.approx(1)
    assert overlap.rank_correlation(first, -first, table) == pytest.approx(-1)
    assert np.isnan(overlap.rank_correlation(first, np.ones(14), table)), "a constant has no order"


def test_policies_are_ranked_by_probability_and_rules_by_draws():
    table = flat_table(3)
    p = np.array([0.5, 0.3, 0.2])
    policy = Observed("p", "", 100, np.array([1, 2, 97]), p, p > 0.4)
    matrix = overlap.correlation_matrix([policy, drawn("r", 90, 6, 4)], table)
    assert matrix == pytest.approx(np.ones((2, 2)))


def test_entropies_of_blocks():
    table = flat_table(4, 1, 0, 3)
    weights = np.array([1.0, 2, 3, 4, 7, 0, 5, 0])
    expected = [stats.entropy([1, 2, 3, 4]), 0, 0, 0]
    assert overlap.entropies(weights, table) == pytest.approx(expected)
    uniform = overlap.entropies(np.full(8, 0.3), table)
    assert uniform == pytest.approx([np.log(4), 0, 0, np.log(3)])
    assert overlap.mean_entropy(uniform, table.sizes) == pytest.approx(((np.log(4) + np.log(3)) / 2, 1.0))
    assert overlap.mean_entropy(np.array([np.log(2), 0, 0, np.log(3)]), table.sizes)[1] == pytest.approx(0.75)
    assert overlap.mean_entropy(np.zeros(1), np.array([1])) == (0.0, 0.0)
    assert overlap.entropies(np.zeros(8), table).tolist() == [0, 0, 0, 0]
