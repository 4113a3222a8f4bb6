"""Where the masks of an adaptation come from: chosen before it begins, or drawn anew at every step."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nmg.inner.arena import Arena
from nmg.inner.first_masks import FirstMasking
from nmg.inner.kept import KeptSurprise
from nmg.masking.base import Masking
from nmg.masking.corrupt import corrupt
from nmg.masking.planned import plan_ahead
from nmg.masking.schedule import RateSchedule
from nmg.seeding import StreamName
from nmg.types import CorruptedBlocks, IntArray, MaskPlan, StateEncoder, TokenBlocks

if TYPE_CHECKING:
    from nmg.data.corpus import Corpus

Batches: TypeAlias = Callable[[IntArray], CorruptedBlocks]
"""rows [B] of the text → the batch with its masks"""


class Masks(Protocol):
    """Text to adapt on, and how it is masked."""

    @property
    def name(self) -> str: ...

    @property
    def lengths(self) -> IntArray:
        """[F] tokens of each row, special tokens included"""
        ...

    @property
    def token_ids(self) -> Tensor:
        """int64 [n]: every id that a batch may hold, that of padding included"""
        ...

    def start(self, arena: Arena, randomness: StreamName, steps: int = 1) -> Batches:
        """`steps`: how many batches there will be, for a masking rate that moves."""
        ...


@dataclass(frozen=True)
class FixedMasks:
    """Blocks that are corrupted once: every epoch sees the same masks (an episode's inner loop)."""

    blocks: TokenBlocks
    plan: MaskPlan
    """one row for each block"""
    name: str = "plan"

    @property
    def lengths(self) -> IntArray:
        lengths: IntArray = self.blocks.is_token.sum(dim=1).numpy()
        return lengths

    @property
    def token_ids(self) -> Tensor:
        return torch.unique(self.blocks.input_ids)  # type: ignore[no-any-return]

    def start(self, arena: Arena, randomness: StreamName, steps: int = 1) -> Batches:  # noqa: ARG002
        rng = (randomness / "corruption").generator()
        corrupted = corrupt(self.blocks, self.plan, arena.vocabulary, arena.masking, rng)
        lengths = self.lengths

        def batch(rows: IntArray) -> CorruptedBlocks:
            index, longest = torch.from_numpy(rows), int(lengths[rows].max())
            columns = (corrupted.input_ids, corrupted.is_token, corrupted.labels)
            return CorruptedBlocks(*(column[index, :longest] for column in columns))

        return batch


@dataclass(frozen=True)
class DrawnMasks:
    """A corpus whose masks are drawn anew at every step (meta-test, adaptation)."""

    corpus: "Corpus"
    masking: Masking
    sees: Literal["step", "start"] = "step"
    """a learned policy chooses by the LM as it is at each `step`, or once for all epochs by the LM at the `start`"""

    @property
    def name(self) -> str:
        return self.masking.name

    @property
    def lengths(self) -> IntArray:
        return self.corpus.lengths

    @property
    def token_ids(self) -> Tensor:
        return torch.from_numpy(np.union1d(self.corpus.distinct_ids, [self.corpus.padding_id]))

    def start(self, arena: Arena, randomness: StreamName, steps: int = 1) -> Batches:
        encode: StateEncoder = arena.reader
        masking, rates = self.masking, RateSchedule.of(arena.masking, steps)
        if arena.masking.refresh_steps > 1:
            encode = KeptSurprise(encode, arena.masking.refresh_steps)
        if masking.reads_states and arena.runtime.sharing.processes > 1:
            masking = FirstMasking(masking, arena.runtime.sharing, arena.runtime.device)
        if self.sees == "start" and masking.reads_states:
            rng = (randomness / "plan").generator()
            masking = plan_ahead(masking, self.corpus, rates.start, rng, encode, arena.runtime.evaluation_batch_size)
        choices = (randomness / "masks" / "choices").generator()
        corruption = (randomness / "masks" / "corruption").generator()
        number = count()

        def batch(rows: IntArray) -> CorruptedBlocks:
            blocks = self.corpus.blocks(rows)
            plan = masking.plan(blocks, rates.at(next(number)), choices, encode)
            return corrupt(blocks, plan, arena.vocabulary, arena.masking, corruption)

        return batch
