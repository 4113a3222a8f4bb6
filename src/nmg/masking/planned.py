"""Masks selected once for a whole corpus and reused in every epoch."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nmg.base.state import State
from nmg.base.types import NO_POSITION, IntArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import Masking

if TYPE_CHECKING:
    from nmg.data.corpus import Corpus


class PlannedMasking:
    """A masking that returns precomputed positions for every block of a corpus.

    Args:
        name: name of the masking that selected the positions.
        positions: int64 [blocks of the corpus, K]; -1 after a block's budget.
        budget: int64 [blocks of the corpus], number of masked tokens per block.
        rate: the rate for which the positions were selected; `plan` accepts no other.
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
        """Return the precomputed plan for `blocks`.

        Args:
            blocks: B blocks, identified by their `block_ids`.
            rate: the rate for which the positions were selected.
            rng: ignored.
            encode: ignored.

        Returns:
            The plan, without log-probabilities.

        Raises:
            ValueError: If `rate` differs from the planned rate.
        """
        if rate != self._rate:
            raise ValueError(f"the masks were selected for a rate of {self._rate}, not {rate}")
        budget = self._budget[blocks.block_ids]
        n_columns = int(budget.max()) if len(budget) else 0
        return MaskPlan(self._positions[blocks.block_ids, :n_columns], budget)

    def state(self) -> State:
        """Return the positions of all blocks."""
        return State({"positions": self._positions.to(torch.int32), "budget": self._budget.to(torch.int32)})

    def restore(self, state: State) -> None:
        """Replace the positions of all blocks with those in `state`."""
        self._positions, self._budget = state.tensors["positions"].long(), state.tensors["budget"].long()


def plan_ahead(
    masking: Masking, corpus: "Corpus", rate: float, rng: np.random.Generator, encode: StateEncoder, batch_size: int
) -> PlannedMasking:
    """Select the positions of a whole corpus once, with the current state of the language model.

    Batches contain blocks of similar length. The cost is therefore below that of selection during one training epoch.

    Args:
        masking: selects the positions.
        corpus: all blocks to mask.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        encode: reads the language model.
        batch_size: number of blocks per batch.

    Returns:
        A masking that returns these positions for any blocks of `corpus`.
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
