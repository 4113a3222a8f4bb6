"""Masks by what the LM says, chosen by one of the processes that train together."""

from dataclasses import dataclass

import numpy as np
import torch

from nmg.inner.sharing import Sharing
from nmg.masking.base import Masking
from nmg.together import as_one
from nmg.types import NO_POSITION, MaskPlan, StateEncoder, TokenBlocks

NO_GROUP = -2
"""in the place of the groups of a plan that has none"""


@dataclass(frozen=True)
class FirstMasking:
    """A `Masking` that the first process chooses for all.

    The LM's states round differently on different GPUs. Processes that choose for themselves could so choose other
    positions, and would train on different batches without notice.
    """

    masking: Masking
    sharing: Sharing
    device: torch.device
    """where processes exchange tensors"""
    reads_states = True

    @property
    def name(self) -> str:
        return self.masking.name

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """The plan of the first process, without log-probabilities. Raises FailedTogether if it has none."""
        plan: MaskPlan | None = None
        with as_one():
            if self.sharing.index == 0:
                plan = self.masking.plan(blocks, rate, rng, encode)
        budget = blocks.budgets(rate)
        width = int(budget.max()) if len(budget) else 0
        sent = torch.full((2, len(blocks), width), NO_POSITION, device=self.device)
        if plan is not None:
            sent[0] = plan.positions
            sent[1] = NO_GROUP if plan.group is None else plan.group
        self.sharing.take_first([sent])
        positions, group = sent.to(blocks.input_ids.device)
        return MaskPlan(positions, budget, group=None if bool((group == NO_GROUP).all()) else group)
