"""Sources of masks for an adaptation: masks chosen in advance, or drawn again at every step."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nmg.base.seeding import StreamName
from nmg.base.types import CorruptedBlocks, IntArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import Masking
from nmg.masking.corrupt import corrupt
from nmg.masking.planned import plan_ahead
from nmg.masking.schedule import RateSchedule
from nmg.training.context import TrainingContext
from nmg.training.encoder_cache import CachedEncoder
from nmg.training.first_masks import FirstMasking

if TYPE_CHECKING:
    from nmg.data.corpus import Corpus

Batches: TypeAlias = Callable[[IntArray], CorruptedBlocks]
"""Function from row numbers [B] of the text to a batch with its masks."""


class Masks(Protocol):
    """Text to adapt on and its masking."""

    @property
    def name(self) -> str: ...

    @property
    def lengths(self) -> IntArray:
        """int [F]: tokens of each row, special tokens included."""
        ...

    @property
    def token_ids(self) -> Tensor:
        """int64 [N]: all ids that a batch may contain, including the padding id."""
        ...

    def start(self, context: TrainingContext, randomness: StreamName, steps: int = 1) -> Batches:
        """Start an adaptation and return the function that builds its batches.

        Args:
            context: Context with the model, the vocabulary and the masking settings.
            randomness: Random stream of the masks.
            steps: Number of batches, needed for a masking rate that changes during training.

        Returns:
            Function from row numbers to a corrupted batch.
        """
        ...


@dataclass(frozen=True)
class FixedMasks:
    """Blocks that are corrupted once, so every epoch has the same masks. Used by the inner loop of an episode."""

    blocks: TokenBlocks
    plan: MaskPlan
    """Mask plan with one row per block."""
    name: str = "plan"

    @property
    def lengths(self) -> IntArray:
        """int [F]: tokens of each row, special tokens included."""
        lengths: IntArray = self.blocks.is_token.sum(dim=1).numpy()
        return lengths

    @property
    def token_ids(self) -> Tensor:
        """int64 [N]: all ids that a batch may contain, including the padding id."""
        return torch.unique(self.blocks.input_ids)  # type: ignore[no-any-return]

    def start(self, context: TrainingContext, randomness: StreamName, steps: int = 1) -> Batches:  # noqa: ARG002
        """Corrupt all blocks once and return the function that selects batches of them. `steps` is ignored."""
        rng = (randomness / "corruption").generator()
        corrupted = corrupt(self.blocks, self.plan, context.vocabulary, context.masking, rng)
        lengths = self.lengths

        def batch(rows: IntArray) -> CorruptedBlocks:
            index, longest = torch.from_numpy(rows), int(lengths[rows].max())
            columns = (corrupted.input_ids, corrupted.is_token, corrupted.labels)
            return CorruptedBlocks(*(column[index, :longest] for column in columns))

        return batch


@dataclass(frozen=True)
class DrawnMasks:
    """Corpus whose masks are drawn again at every step. Used by meta-test and adaptation."""

    corpus: "Corpus"
    masking: Masking
    sees: Literal["every-step", "once"] = "every-step"
    """When a learned policy reads the LM: at each `step`, or once for all epochs at the `start`."""

    @property
    def name(self) -> str:
        """Name of the masking."""
        return self.masking.name

    @property
    def lengths(self) -> IntArray:
        """int [F]: tokens of each row, special tokens included."""
        return self.corpus.lengths

    @property
    def token_ids(self) -> Tensor:
        """int64 [N]: all ids that a batch may contain, including the padding id."""
        return torch.from_numpy(np.union1d(self.corpus.distinct_ids, [self.corpus.padding_id]))

    def start(self, context: TrainingContext, randomness: StreamName, steps: int = 1) -> Batches:
        """Return the function that builds batches with newly drawn masks.

        Args:
            context: Context with the model, the vocabulary and the masking settings.
            randomness: Random stream of the masks.
            steps: Number of batches, needed for a masking rate that changes during training.

        Returns:
            Function from row numbers to a corrupted batch.
        """
        encode: StateEncoder = context.reader
        masking, rates = self.masking, RateSchedule.of(context.masking, steps)
        if context.masking.refresh_steps > 1:
            encode = CachedEncoder(encode, context.masking.refresh_steps)
        if masking.reads_states and context.runtime.sharing.processes > 1:
            masking = FirstMasking(masking, context.runtime.sharing, context.runtime.device)
        if self.sees == "once" and masking.reads_states:
            rng = (randomness / "plan").generator()
            masking = plan_ahead(masking, self.corpus, rates.start, rng, encode, context.runtime.evaluation_batch_size)
        choices = (randomness / "masks" / "choices").generator()
        corruption = (randomness / "masks" / "corruption").generator()
        number = count()

        def batch(rows: IntArray) -> CorruptedBlocks:
            blocks = self.corpus.blocks(rows)
            plan = masking.plan(blocks, rates.at(next(number)), choices, encode)
            return corrupt(blocks, plan, context.vocabulary, context.masking, corruption)

        return batch
