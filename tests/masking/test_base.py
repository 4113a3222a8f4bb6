"""Choosing positions and units under an exact budget."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmg.masking.base import choose, choose_units, number_units, pick

from .helpers import empty_blocks, word_blocks


def test_choose_takes_the_best_maskable_positions_in_ascending_order() -> None:
    blocks = word_blocks([[1, 1, 1, 1], [1, 1]])
    scores = torch.tensor([[9.0, 1.0, 5.0, 2.0, 4.0, 9.0], [9.0, 1.0, 2.0, 9.0, 9.0, 9.0]])
    plan = choose(scores, blocks, rate=0.5)
    assert plan.positions.tolist() == [[2, 4], [2, -1]]
    assert plan.budget.tolist() == [2, 1]


def test_choose_breaks_ties_by_the_lower_position() -> None:
    blocks = word_blocks([[1] * 40])
    scores = torch.zeros(1, 42)
    scores[0, 20] = 1.0
    assert choose(scores, blocks, rate=0.1).positions.tolist() == [[1, 2, 3, 20]]


@pytest.mark.parametrize("score", [-torch.inf, torch.finfo(torch.float32).min])
def test_choose_never_prefers_a_special_token_even_to_the_lowest_score(score: float) -> None:
    blocks = word_blocks([[1, 1, 1]])
    plan = choose(torch.full((1, 5), score), blocks, rate=0.9)
    assert plan.positions.tolist() == [[1, 2]]


def test_a_unit_is_a_run_of_maskable_positions() -> None:
    blocks = word_blocks([[1, 1, 1, 1, 1]])
    blocks.is_maskable[0, 3] = False
    number, is_first = number_units(torch.tensor([[7, 7, 7, 7, 7, -1, 7]]), blocks)
    assert number.tolist() == [[-1, 0, 0, -1, 1, -1, -1]]
    assert is_first.nonzero()[:, 1].tolist() == [1, 4]


def test_a_unit_that_does_not_fit_is_skipped() -> None:
    blocks = word_blocks([[3, 1, 1, 1, 4]])
    scores = torch.tensor([[0.0, 9, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0]])  # by first position: 3 tokens, then the singles
    assert choose_units(blocks.word_index, scores, blocks, rate=0.2).positions.tolist() == [[5, 6]]


def test_the_best_skipped_unit_is_cut_when_nothing_else_fits() -> None:
    blocks = word_blocks([[4, 4, 2]])
    scores = torch.tensor([[0.0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0]])
    # Budget 3: the second word is best and too long, the first too; the third fits; one token of the second remains.
    assert choose_units(blocks.word_index, scores, blocks, rate=0.3).positions.tolist() == [[5, 9, 10]]


def test_positions_without_a_unit_come_last_and_by_score() -> None:
    blocks = word_blocks([[1] * 6])
    unit_of = torch.tensor([[-1, -1, -1, 4, 4, -1, -1, -1]])
    scores = torch.tensor([[0.0, 7, 8, -5, 0, 9, 6, 0]])
    assert choose_units(unit_of, scores, blocks, rate=0.7).positions.tolist() == [[2, 3, 4, 5]]
    # One token short: the unit is cut before any other position is taken.
    assert choose_units(unit_of, scores, blocks, rate=0.2).positions.tolist() == [[3]]


def slow_choose_units(unit_of: Sequence[int], scores: Sequence[float], is_maskable: Sequence[bool], k: int) -> set[int]:
    units: list[list[int]] = []
    loose = []
    for t, (unit, maskable) in enumerate(zip(unit_of, is_maskable, strict=True)):
        if not maskable:
            continue
        if unit < 0:
            loose.append(t)
        elif units and units[-1][-1] == t - 1 and unit_of[t - 1] == unit:
            units[-1].append(t)
        else:
            units.append([t])
    chosen: list[int] = []
    skipped = []
    for unit_positions in sorted(units, key=lambda positions: -scores[positions[0]]):
        if len(chosen) + len(unit_positions) <= k:
            chosen += unit_positions
        else:
            skipped.append(unit_positions)
    for unit_positions in skipped:
        chosen += unit_positions[: k - len(chosen)]
    chosen += sorted(loose, key=lambda t: -scores[t])[: k - len(chosen)]
    return set(chosen)


@st.composite
def blocks_with_units(draw: st.DrawFn) -> tuple[list[list[int]], list[list[bool]], list[list[int]], float]:
    n_blocks, n_tokens = draw(st.integers(1, 4)), draw(st.integers(1, 24))

    def table(values: st.SearchStrategy[int]) -> list[list[int]]:
        return [draw(st.lists(values, min_size=n_tokens, max_size=n_tokens)) for _ in range(n_blocks)]

    steps = table(st.sampled_from([0, 0, 1]))
    unit_of = [
        [-1 if loose else int(unit) for unit, loose in zip(np.cumsum(row), free, strict=True)]
        for row, free in zip(steps, table(st.sampled_from([0, 0, 0, 1])), strict=True)
    ]
    is_maskable = [[bool(x) for x in row] for row in table(st.sampled_from([0, 1, 1, 1]))]
    return unit_of, is_maskable, table(st.integers(0, 5)), draw(st.sampled_from([0.05, 0.2, 0.5, 0.9]))


@settings(max_examples=300)
@given(blocks_with_units())
def test_choose_units_agrees_with_a_scalar_version(
    case: tuple[list[list[int]], list[list[bool]], list[list[int]], float],
) -> None:
    unit_of, is_maskable, scores, rate = case
    blocks = empty_blocks(len(unit_of), len(unit_of[0]))
    blocks.is_maskable[:] = torch.tensor(is_maskable)
    plan = choose_units(torch.tensor(unit_of), torch.tensor(scores).float(), blocks, rate)
    for b, k in enumerate(blocks.budgets(rate).tolist()):
        positions = plan.positions[b, :k].tolist()
        assert positions == sorted(slow_choose_units(unit_of[b], scores[b], is_maskable[b], k))
        assert (plan.positions[b, k:] == -1).all()


def test_pick_is_uniform_over_the_candidates() -> None:
    is_candidate = np.array([[False, True, False, True, True], [True, False, False, False, False], [False] * 5])
    grid = [pick(is_candidate, np.full(3, u)).tolist() for u in (0.0, 0.34, 0.67, 1 - 1e-16)]
    assert grid == [[1, 0, 0], [3, 0, 0], [4, 0, 0], [4, 0, 0]]
