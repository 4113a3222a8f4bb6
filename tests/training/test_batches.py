"""Batches of rows of similar length, with as many rows or as many tokens each."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nmg.base.training_settings import AdaptSettings
from nmg.training.accumulation import Accumulation
from nmg.training.batches import POOL_BATCHES, batches_per_epoch, bucketed_batches, equal_parts, joined_batches
from nmg.training.runtime import Runtime


@settings(max_examples=50)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 2**32))
def test_batches_hold_every_row_once(lengths: list[int], batch_size: int, seed: int):
    batches = bucketed_batches(np.array(lengths), batch_size, np.random.default_rng(seed))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    sizes = sorted(len(batch) for batch in batches)
    assert sizes[-1] <= batch_size
    # A pool holds whole batches, so only the last one can leave a smaller batch.
    assert len(batches) == -(-len(lengths) // batch_size)


@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(2, POOL_BATCHES), st.integers(0, 2**32))
def test_batches_of_one_pool_do_not_overlap_in_length(batch_size: int, n_batches: int, seed: int):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 1000, n_batches * batch_size)
    ranges = sorted((lengths[b].min(), lengths[b].max()) for b in bucketed_batches(lengths, batch_size, rng))
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))


def test_epochs_are_shuffled():
    rng = np.random.default_rng(0)
    lengths = np.full(64, 5)
    first, second = (np.concatenate(bucketed_batches(lengths, 4, rng)) for _ in range(2))
    assert not np.array_equal(first, second)
    firsts = [int(batch[0]) for batch in bucketed_batches(np.arange(64), 4, rng)]
    assert firsts not in (sorted(firsts), sorted(firsts, reverse=True)), "batches come in random order"


# ---- joined documents


def joining(batch_size: int, block_size: int) -> AdaptSettings:
    return AdaptSettings(batch_size=batch_size, block_size=block_size, join_documents=True)


@pytest.mark.parametrize(
    ("sizes", "n_parts", "ends"),
    [
        ([1, 1, 1, 1], 2, [0, 2, 4]),
        ([5, 1, 1, 1, 4], 3, [0, 1, 4, 5]),
        ([9, 1, 1], 3, [0, 1, 2, 3]),
        ([1, 1, 9], 3, [0, 1, 2, 3]),
        ([4, 4, 4], 1, [0, 3]),
        ([], 0, [0]),
    ],
)
def test_parts_by_hand(sizes: list[int], n_parts: int, ends: list[int]):
    assert equal_parts(np.array(sizes, dtype=np.int64), n_parts).tolist() == ends


def test_batches_per_epoch_by_hand():
    lengths = np.array([10, 20, 30, 40])
    assert batches_per_epoch(AdaptSettings(batch_size=3), lengths) == 2, "of three blocks"
    assert batches_per_epoch(joining(1, 50), lengths) == 2
    assert batches_per_epoch(joining(2, 40), lengths) == 2
    assert batches_per_epoch(joining(2, 50), lengths) == 1
    assert batches_per_epoch(joining(1, 38), lengths) == 2, "at least as many tokens as the longest"
    assert batches_per_epoch(joining(8, 254), np.zeros(0, dtype=np.int64)) == 0


@settings(max_examples=50)
@given(st.lists(st.integers(3, 66), min_size=1, max_size=400), st.integers(1, 4), st.integers(0, 2**32), st.booleans())
def test_joined_batches_hold_every_row_once_and_as_many_tokens(
    sizes: list[int], batch_size: int, seed: int, half: bool
):
    lengths, rng = np.array(sizes), np.random.default_rng(seed)
    rows = np.arange(0, len(lengths), 2) if half else None
    ours = lengths if rows is None else lengths[rows]
    n = batches_per_epoch(joining(batch_size, 64), ours)
    batches = joined_batches(lengths, n, rng, rows)
    assert sorted(row for batch in batches for row in batch) == (
        list(range(len(lengths))) if rows is None else rows.tolist()
    )
    assert len(batches) == n
    assert all(len(batch) for batch in batches)
    # A pool and then its batches are cut, each within half of a row at both ends.
    assert max(lengths[batch].sum() for batch in batches) <= ours.sum() / n + 2 * ours.max()


def test_joined_batches_have_equal_tokens_and_similar_lengths():
    lengths = np.random.default_rng(0).integers(5, 60, 5000)
    n = batches_per_epoch(joining(8, 64), lengths)
    batches = joined_batches(lengths, n, np.random.default_rng(1))
    tokens = np.array([lengths[batch].sum() for batch in batches])
    assert n == -(-lengths.sum() // 512)
    assert abs(tokens - lengths.sum() / n).max() < 60
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.05 * lengths.sum(), "the rows of a batch have similar lengths"
    again = joined_batches(lengths, n, np.random.default_rng(2))
    assert sorted(map(len, again)) != sorted(map(len, batches)), "another epoch is divided otherwise"


@pytest.mark.parametrize(
    ("batch_size", "at_once", "n_rows", "parts"),
    [
        (2, None, 10, [10]),
        (2, 1, 10, [5, 5]),
        (4, 3, 10, [8, 2]),
        (4, 3, 2, [2]),
    ],
)
def test_a_pass_has_its_fraction_of_joined_documents(
    batch_size: int, at_once: int | None, n_rows: int, parts: list[int]
):
    runtime, seen = Runtime(torch.device("cpu"), "fp32", 64, micro_batch_size=at_once), []
    model = nn.Linear(1, 1)

    def loss(part: slice) -> torch.Tensor:
        seen.append(part.stop - part.start)
        return model.weight.sum() * seen[-1]

    total = Accumulation(batch_size, runtime).backward(loss, n_rows, model)
    assert seen == parts
    assert total.item() == pytest.approx(n_rows * model.weight.item())
