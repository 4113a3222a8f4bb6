"""Mixtures of maskings: for every block, one masking is drawn with probability ∝ its share.

This kind of masking is original to nmg.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
import torch

from nmg.base.errors import UserError
from nmg.base.types import NO_POSITION, FloatArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import Masking

_MEMBER = re.compile(r"(?:(?P<share>[^*]*)\*)?(?P<name>[^*]+)")


def parse_mixture(name: str) -> list[tuple[float, str]]:
    """Parse the name of a mixture, e.g. '0.7*idf+0.3*random' → [(0.7, 'idf'), (0.3, 'random')].

    A member without a share has the share 1, and shares need not add up to 1. A name without "+" is not a mixture and
    gives an empty list. Raises UserError if a share is not a finite number above 0.
    """
    if "+" not in name:
        return []
    members = []
    for part in name.split("+"):
        found = _MEMBER.fullmatch(part.strip())
        try:
            share = float(found["share"] or 1.0) if found else 0.0
        except ValueError:
            share = 0.0
        if found is None or not 0.0 < share < math.inf:
            raise UserError(f"masking '{name}': a mixture is written like 0.7*idf+0.3*random, with shares above 0")
        members.append((share, found["name"].strip()))
    return members


class Mixture:
    """A masking that applies one of several maskings to each block."""

    def __init__(self, name: str, members: Sequence[tuple[float, Masking]]) -> None:
        """Store the share and masking of each member. Raises UserError without members or for a share ≤ 0."""
        if not members or not all(0.0 < share < math.inf for share, _ in members):
            raise UserError(f"masking '{name}': a mixture needs at least one masking, each with a share above 0")
        self.name = name
        self._members = [masking for _, masking in members]
        shares: FloatArray = np.array([share for share, _ in members])
        self._ends = (shares / shares.sum()).cumsum()[:-1]

    @property
    def reads_states(self) -> bool:
        """Whether any member reads the language model."""
        return any(member.reads_states for member in self._members)

    @property
    def reads_words(self) -> bool:
        """Whether any member needs to know which tokens form a word."""
        return any(getattr(member, "reads_words", True) for member in self._members)

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Draw a member for each block and let it select the positions.

        Args:
            blocks: B blocks of T tokens.
            rate: fraction of the maskable tokens to mask.
            rng: source of all randomness.
            encode: reads the language model; needed only if `reads_states` is True.

        Returns:
            The plans of all members, merged in the order of the blocks. It has no log-probabilities.
        """
        member_of = np.searchsorted(self._ends, rng.random(len(blocks)), side="right")
        plans = []
        for number, member in enumerate(self._members):
            rows = torch.from_numpy(np.flatnonzero(member_of == number)).to(blocks.input_ids.device)
            if len(rows):
                plans.append((rows, member.plan(blocks.rows(rows), rate, rng, encode)))
        return _together(plans, len(blocks))


def _together(plans: Sequence[tuple[torch.Tensor, MaskPlan]], n_blocks: int) -> MaskPlan:
    """Merge pairs of row numbers (int64) and plans into one plan for all blocks. Log-probabilities are omitted."""
    width = max((plan.positions.shape[1] for _, plan in plans), default=0)
    device = plans[0][0].device if plans else None
    positions = torch.full((n_blocks, width), NO_POSITION, device=device)
    group, budget = positions.clone(), torch.zeros(n_blocks, dtype=torch.int64, device=device)
    for rows, plan in plans:
        columns = plan.positions.shape[1]
        positions[rows, :columns] = plan.positions
        budget[rows] = plan.budget
        # If a plan has no groups, every position becomes a separate group.
        alone = torch.arange(columns, device=device).expand_as(plan.positions).masked_fill(~plan.is_chosen, NO_POSITION)
        group[rows, :columns] = alone if plan.group is None else plan.group
    has_groups = any(plan.group is not None for _, plan in plans)
    return MaskPlan(positions, budget, group=group if has_groups else None)
