"""Replay: blocks of general text in every epoch of an adaptation, so that the model forgets less.

Mixing old examples into the training on new ones is experience replay (Rolnick et al. 2019, arXiv 1811.11682).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nmg.base.seeding import StreamName
from nmg.base.types import NO_POSITION, IntArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import Masking
from nmg.masking.rules import RandomMasking


@dataclass(frozen=True)
class Replay:
    """Selects the rows of each epoch: all blocks of the domain and some of the general text.

    No general block is used again before all have been used.
    """

    n_domain: int
    """Number of domain blocks; they are the first rows."""
    n_general: int
    """Number of general blocks, at least 1; their rows follow those of the domain."""
    share: float
    """Fraction of the blocks of an epoch that are general."""
    randomness: StreamName
    """Random stream of the general blocks."""

    @property
    def per_epoch(self) -> int:
        """Number of general blocks in an epoch, at least 1."""
        return max(round(self.n_domain * self.share / (1 - self.share)), 1)

    def rows_of(self, epoch: int) -> IntArray:
        """Return the row numbers of an epoch, int64 [n_domain + per_epoch]. `epoch` counts from 0."""
        order, place = np.divmod(np.arange(epoch * self.per_epoch, (epoch + 1) * self.per_epoch), self.n_general)
        general = [self._order(number)[place[order == number]] for number in np.unique(order).tolist()]
        return np.concatenate([np.arange(self.n_domain), self.n_domain + np.concatenate(general)])

    def _order(self, number: int) -> IntArray:
        """Return the order of all general blocks in the pass `number` over them, counted from 0."""
        return (self.randomness / number).generator().permutation(self.n_general)


@dataclass(frozen=True)
class ReplayMasking:
    """A `Masking` that masks domain blocks with another masking, and general blocks at random, at the same rate.

    A masking may be made from the domain's own words, entities or labels, which say nothing about general text. Random
    masks train the model on general text as it was pre-trained.
    """

    masking: Masking
    n_domain: int
    """Number of domain blocks; blocks with this number or a higher one are general."""

    @property
    def name(self) -> str:
        """Name of the masking of the domain."""
        return self.masking.name

    @property
    def reads_states(self) -> bool:
        """Whether the masking of the domain reads the language model."""
        return self.masking.reads_states

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Implement `Masking.plan`, without log-probabilities if a block is general."""
        is_general = blocks.block_ids >= self.n_domain
        if not bool(is_general.any()):
            return self.masking.plan(blocks, rate, rng, encode)
        budget = blocks.budgets(rate)
        width = int(budget.max())
        positions = torch.full((len(blocks), width), NO_POSITION)
        group: Tensor | None = None
        for masking, index in ((self.masking, _rows(~is_general)), (RandomMasking(), _rows(is_general))):
            if len(index):
                plan = masking.plan(blocks.rows(index), rate, rng, encode)
                columns = plan.positions.shape[1]
                positions[index, :columns] = plan.positions
                if plan.group is not None:
                    group = torch.arange(width).repeat(len(blocks), 1)  # random positions are drawn independently
                    group[index] = NO_POSITION
                    group[index, :columns] = plan.group
        return MaskPlan(positions, budget, group=group)


def _rows(is_wanted: Tensor) -> Tensor:
    """Return the numbers of the rows that are True, int64."""
    return is_wanted.nonzero().squeeze(1)
