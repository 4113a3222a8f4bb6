"""Measures how long a masking takes to draw its masks."""

import time

import numpy as np
import torch

from nmg.base.types import MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import Masking


class MeteredMasking:
    """A wrapper with a custom name that draws the same masks as `masking` and measures the time."""

    def __init__(self, name: str, masking: Masking) -> None:
        self.name = name
        self._masking = masking
        self.reads_states = masking.reads_states
        self.seconds = 0.0
        """Wall time of all `plan` calls, in seconds. It includes computing the LM states that a policy reads."""

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Return the plan of the wrapped masking and add the wall time to `seconds`.

        Args:
            blocks: Token blocks to mask.
            rate: Share of the maskable tokens to mask.
            rng: Random generator of the draw.
            encode: Computes LM states; needed only if `reads_states`.

        Returns:
            The masks of all blocks.
        """
        if self.reads_states and torch.cuda.is_available():
            torch.cuda.synchronize()  # do not charge pending kernels of the previous step to mask selection
        began = time.perf_counter()
        plan = self._masking.plan(blocks, rate, rng, encode)
        self.seconds += time.perf_counter() - began
        return plan
