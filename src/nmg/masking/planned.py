"""Masks chosen once for a whole corpus, and used in every epoch."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nmg.masking.base import Masking
from nmg.types import NO_POSITION, IntArray, MaskPlan, StateEncoder, TokenBlocks

if TYPE_CHECKING:
    from nmg.data.corpus import Corpus


class PlannedMasking:
    """Choices made beforehand for every block of a corpus.

    Args:
        positions: int64 [blocks of the corpus, K], -1 behind a block's budget.
        budget: int64 [blocks of the corpus].
        rate: share of tokens that was planned for; `plan` takes no other.
    """

    reads_states = False

    def __init__(self, name: str, positions: Tensor, budget: Tensor, rate: float) -> None:
        self.name = name
        self._positions, self._budget, self._rate = positions, budget, rate

    def plan(
        self,
        blocks: TokenBlocks,
        rate: float,
        rng: np.random.Generator,  # noqa: ARG002
        encode: StateEncoder | None = None,  # noqa: ARG002
    ) -> MaskPlan:
        """The choices for `blocks`, found by their ids. Raises ValueError for another rate than was planned for."""
        if rate != self._rate:
            raise ValueError(f"masks were planned for a rate of {self._rate}, not {rate}")
        budget = self._budget[blocks.block_ids]
        n_columns = int(budget.max()) if len(budget) else 0
        return MaskPlan(self._positions[blocks.block_ids, :n_columns], budget)


def plan_ahead(
    masking: Masking, corpus: "Corpus", rate: float, rng: np.random.Generator, encode: StateEncoder, batch_size: int
) -> PlannedMasking:
    """Let `masking` choose once for the whole corpus, by the states that the LM has now.

    Blocks of similar length share a batch, so this is cheaper than what a policy costs in one epoch of training.
    """
    plans: list[tuple[IntArray, MaskPlan]] = []
    order = np.argsort(-corpus.lengths, kind="stable")
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        plans.append((rows, masking.plan(corpus.blocks(rows), rate, rng, encode)))
    n_columns = max(plan.positions.shape[1] for _, plan in plans)
    positions = torch.full((len(corpus), n_columns), NO_POSITION)
    budget = torch.zeros(len(corpus), dtype=torch.int64)
    for rows, plan in plans:
        positions[rows, : plan.positions.shape[1]] = plan.positions
        budget[rows] = plan.budget
    return PlannedMasking(masking.name, positions, budget, rate)
