"""Masking that depends on the LM, computed on rank 0 of data-parallel training."""

from dataclasses import dataclass

import numpy as np
import torch

from nmg.base.distributed import as_one
from nmg.base.types import NO_POSITION, MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import Masking
from nmg.training.data_parallel import DataParallel

NO_GROUP = -2
"""Placeholder that is sent instead of groups if a plan has none."""


@dataclass(frozen=True)
class FirstMasking:
    """A `Masking` whose plans are computed on rank 0 and broadcast to all processes.

    The states of the LM round differently on different GPUs. If each process computed its own plan, the plans could
    differ, and the processes would train on different batches without notice.
    """

    masking: Masking
    sharing: DataParallel
    device: torch.device
    """Device on which processes exchange tensors."""
    reads_states = True

    @property
    def name(self) -> str:
        """Name of the masking."""
        return self.masking.name

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Return the plan of rank 0, without log-probabilities.

        Args:
            blocks: Blocks to mask.
            rate: Masking rate.
            rng: Random generator.
            encode: Encoder that the masking may read.

        Returns:
            The same plan on all processes.

        Raises:
            FailedTogether: If the masking fails on rank 0.
        """
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
