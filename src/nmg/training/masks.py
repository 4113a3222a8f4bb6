"""Sources of masks for an adaptation: masks chosen in advance, or drawn again at every step."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from nmg.base.seeding import StreamName
from nmg.base.state import Resumable, State, Stateless, generator_state, restore_generator
from nmg.base.types import CorruptedBlocks, IntArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import Masking
from nmg.masking.corrupt import corrupt
from nmg.masking.planned import PlannedMasking, plan_ahead
from nmg.masking.schedule import RateSchedule
from nmg.training.context import TrainingContext
from nmg.training.encoder_cache import CachedEncoder
from nmg.training.first_masks import FirstMasking
from nmg.training.replay import Replay

if TYPE_CHECKING:
    from nmg.data.corpus import Corpus


class Batches(Resumable, Protocol):
    """The batches of one adaptation."""

    def __call__(self, rows: IntArray) -> CorruptedBlocks:
        """Return the blocks of row numbers int [B] of the text, with their masks."""
        ...


class Masks(Protocol):
    """Text to adapt on and its masking."""

    @property
    def name(self) -> str: ...

    @property
    def lengths(self) -> IntArray:
        """int [F]: tokens of each row, special tokens included."""
        ...

    def rows_of(self, epoch: int) -> IntArray:
        """Return the row numbers of an epoch, int64 [E]; E is the same for all epochs. `epoch` counts from 0."""
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

    def rows_of(self, epoch: int) -> IntArray:  # noqa: ARG002
        """Return all row numbers."""
        return np.arange(len(self.blocks))

    @property
    def token_ids(self) -> Tensor:
        """int64 [N]: all ids that a batch may contain, including the padding id."""
        return torch.unique(self.blocks.input_ids)  # type: ignore[no-any-return]

    def start(self, context: TrainingContext, randomness: StreamName, steps: int = 1) -> Batches:  # noqa: ARG002
        """Implement `Masks.start`: corrupt all blocks once and return batches of them. `steps` is ignored."""
        rng = (randomness / "corruption").generator()
        corrupted = corrupt(self.blocks, self.plan, context.vocabulary, context.masking, rng)
        return FixedBatches(corrupted, self.lengths)


@dataclass(frozen=True)
class FixedBatches(Stateless):
    """Batches of blocks that were corrupted once."""

    corrupted: CorruptedBlocks
    lengths: IntArray
    """int [F]: tokens of each row, special tokens included."""

    def __call__(self, rows: IntArray) -> CorruptedBlocks:
        """Return the blocks `rows`, int [B], cut to the longest of them."""
        index, longest = torch.from_numpy(rows), int(self.lengths[rows].max())
        columns = (self.corrupted.input_ids, self.corrupted.is_token, self.corrupted.labels)
        return CorruptedBlocks(*(column[index, :longest] for column in columns))


@dataclass(frozen=True)
class DrawnMasks:
    """Corpus whose masks are drawn again at every step. Used by meta-test and adaptation."""

    corpus: "Corpus"
    masking: Masking
    sees: Literal["every-step", "once"] = "every-step"
    """When a learned policy reads the LM: at every step, or once for all epochs before the first step."""
    replay: Replay | None = None
    """The rows of each epoch, if the last rows of the corpus are general text."""

    @property
    def name(self) -> str:
        """Name of the masking."""
        return self.masking.name

    @property
    def lengths(self) -> IntArray:
        """int [F]: tokens of each row, special tokens included."""
        return self.corpus.lengths

    def rows_of(self, epoch: int) -> IntArray:
        """Return all row numbers, or, with `replay`, those of all domain text and of some general text."""
        return np.arange(len(self.corpus)) if self.replay is None else self.replay.rows_of(epoch)

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
        masking, rates = self.masking, RateSchedule.of(context.masking, steps, context.adapt.decay_ratio)
        if context.masking.refresh_steps > 1:
            encode = CachedEncoder(encode, context.masking.refresh_steps)
        if masking.reads_states and context.runtime.sharing.processes > 1:
            masking = FirstMasking(masking, context.runtime.sharing, context.runtime.device)
        if self.sees == "once" and masking.reads_states:
            rng = (randomness / "plan").generator()
            masking = plan_ahead(masking, self.corpus, rates.start, rng, encode, context.runtime.evaluation_batch_size)
        choices = (randomness / "masks" / "choices").generator()
        corruption = (randomness / "masks" / "corruption").generator()
        return DrawnBatches(self.corpus, masking, rates, encode, context, choices, corruption)


@dataclass
class DrawnBatches:
    """Batches whose masks are drawn at every call."""

    corpus: "Corpus"
    masking: Masking
    rates: RateSchedule
    encode: StateEncoder
    context: TrainingContext
    choices: np.random.Generator
    """Generator of positions."""
    corruption: np.random.Generator
    """Generator of replacements."""
    n_batches: int = 0
    """Number of batches so far."""

    def __call__(self, rows: IntArray) -> CorruptedBlocks:
        """Return the blocks `rows`, int [B], with newly drawn masks."""
        blocks, rate = self.corpus.blocks(rows), self.rates.at(self.n_batches)
        self.n_batches += 1
        plan = self.masking.plan(blocks, rate, self.choices, self.encode)
        return corrupt(blocks, plan, self.context.vocabulary, self.context.masking, self.corruption)

    def state(self) -> State:
        """Return the generators, the number of batches, and the cached masks or token losses, if any."""
        facts = {
            "n_batches": self.n_batches,
            "choices": generator_state(self.choices),
            "corruption": generator_state(self.corruption),
        }
        kept = self._kept_part()
        return State({} if kept is None else kept.state().tensors, facts)

    def restore(self, state: State) -> None:
        """Restore the generators, the number of batches, and the cached masks or token losses from `state`.

        Training then continues after the last batch in `state`.
        """
        self.n_batches = int(state.facts["n_batches"])
        restore_generator(self.choices, state.facts["choices"])
        restore_generator(self.corruption, state.facts["corruption"])
        kept = self._kept_part()
        if kept is not None:
            kept.restore(State(state.tensors))

    def _kept_part(self) -> PlannedMasking | CachedEncoder | None:
        """Return the masking or encoder that caches results of the language model; None if neither caches any."""
        if isinstance(self.masking, PlannedMasking):
            return self.masking
        return self.encode if isinstance(self.encode, CachedEncoder) else None
