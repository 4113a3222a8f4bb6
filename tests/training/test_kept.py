"""Readings of the LM that stand for some steps."""

import torch
from torch import Tensor

from nmg.base.types import TokenBlocks
from nmg.training.encoder_cache import CachedEncoder
from support.policies import blocks_of


class Counting:
    """An LM that says how often it was read; the loss of a token is its id + the number of the reading."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        self.read.append(-len(blocks))
        return blocks.input_ids.float()

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        self.read.append(len(blocks))
        loss = (blocks.input_ids + 100 * len(self.read)) * blocks.is_token
        return torch.stack([loss, loss + 0.5], dim=2).float()


def test_a_block_is_read_anew_after_so_many_calls() -> None:
    lm = Counting()
    kept = CachedEncoder(lm, steps=2)
    one, both = blocks_of([[5, 6, 7]]), blocks_of([[5, 6, 7], [8]])
    first, second, third = kept.surprise(one), kept.surprise(both), kept.surprise(both)
    assert lm.read == [1, 1, 1], "the first block; the second; the first again"
    assert second[0].equal(first[0])
    assert third[1].equal(second[1])
    assert third[0, 1, 0] == first[0, 1, 0] + 200
    assert second[1, 3:].eq(0).all()


def test_what_is_old_is_forgotten() -> None:
    kept = CachedEncoder(Counting(), steps=2)
    for token in range(5, 30):
        kept.surprise(blocks_of([[token]]))
    assert len(kept._kept) <= 2


def test_one_step_and_states_are_read_every_time() -> None:
    lm = Counting()
    kept = CachedEncoder(lm, steps=1)
    block = blocks_of([[5, 6]])
    assert not kept.surprise(block).equal(kept.surprise(block))
    kept(block)
    assert lm.read == [1, 1, -1]
