"""Budgets by hand; `is_masked` against a slow loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nmg.base.types import NO_POSITION, MaskPlan, TokenBlocks


def blocks_with(n_maskable: list[int]) -> TokenBlocks:
    """Blocks `[CLS] tokens [SEP]` with the given numbers of maskable tokens."""
    n_rows, n_columns = len(n_maskable), max(n_maskable) + 2
    counts, columns = torch.tensor(n_maskable)[:, None], torch.arange(n_columns)
    is_maskable = (columns >= 1) & (columns <= counts)
    return TokenBlocks(
        block_ids=torch.arange(n_rows),
        context_ids=torch.arange(n_rows),
        input_ids=torch.ones(n_rows, n_columns, dtype=torch.int64),
        is_token=columns < counts + 2,
        is_maskable=is_maskable,
        word_index=torch.where(is_maskable, columns - 1, NO_POSITION),
    )


@pytest.mark.parametrize(
    ("n_maskable", "rate", "budget"),
    [
        (0, 0.05, 0),
        (0, 0.9, 0),
        (1, 0.05, 1),  # at least one
        (1, 0.99, 1),
        (19, 0.05, 1),
        (20, 0.05, 1),
        (39, 0.05, 1),
        (40, 0.05, 2),
        (20, 0.15, 3),
        (100, 0.29, 29),  # 0.29 * 100 is 28.999999999999996
        (100, 0.07, 7),  # 0.07 * 100 is 7.000000000000001
        (254, 0.05, 12),
        (510, 0.05, 25),
        (510, 0.15, 76),
        (3, 0.999, 2),
    ],
)
def test_budget_by_hand(n_maskable: int, rate: float, budget: int):
    assert blocks_with([n_maskable]).budgets(rate).tolist() == [budget]


def test_budgets_of_a_batch_are_those_of_its_blocks():
    blocks = blocks_with([0, 1, 7, 40, 254])
    assert len(blocks) == 5
    budgets = blocks.budgets(0.05)
    assert budgets.dtype == torch.int64
    assert budgets.tolist() == [0, 1, 1, 2, 12]


@given(n_maskable=st.integers(0, 600), percent=st.integers(1, 99))
def test_budgets_are_exact_at_every_whole_percent(n_maskable: int, percent: int):
    expected = min(max(1, n_maskable * percent // 100), n_maskable)
    assert blocks_with([n_maskable]).budgets(percent / 100).item() == expected


def is_masked_slowly(positions: Tensor, n_tokens: int) -> list[list[bool]]:
    rows = positions.tolist()
    return [[column in row for column in range(n_tokens)] for row in rows]


@given(st.data(), st.integers(1, 4), st.integers(1, 8))
def test_is_masked_is_what_a_slow_loop_finds(data: st.DataObject, n_blocks: int, n_tokens: int):
    rows = [data.draw(st.lists(st.integers(0, n_tokens - 1), unique=True)) for _ in range(n_blocks)]
    width = max(map(len, rows))
    positions = torch.tensor([row + [NO_POSITION] * (width - len(row)) for row in rows], dtype=torch.int64)
    plan = MaskPlan(positions.reshape(n_blocks, width), torch.tensor(list(map(len, rows))))
    assert plan.is_masked(n_tokens).tolist() == is_masked_slowly(plan.positions, n_tokens)
    assert torch.equal(plan.is_masked(n_tokens).sum(dim=1), plan.budget)
    assert torch.equal(plan.is_chosen.sum(dim=1), plan.budget)


def test_padding_of_a_plan_masks_nothing():
    """Padding is -1, which as an index would be the last position."""
    plan = MaskPlan(torch.tensor([[2, NO_POSITION], [0, 3]]), torch.tensor([1, 2]))
    assert plan.is_masked(4).tolist() == [[False, False, True, False], [True, False, False, True]]
