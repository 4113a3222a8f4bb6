"""Counts what an adaptation masks: per token of the vocabulary, how often it occurred and how often it was masked."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from nmg.base.seeding import StreamName
from nmg.base.state import State
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks, IntArray
from nmg.training.context import TrainingContext
from nmg.training.masks import Batches, Masks

SHOWN = 10
"""Number of tokens that `MaskCounts.extremes` returns at each end."""


@dataclass
class MaskCounts:
    """How often each token occurred in the batches of an adaptation, and how often it was masked."""

    size: int
    """Number of token ids V."""
    seen: IntArray = field(init=False)
    """int64 [V]: number of occurrences of each token."""
    masked: IntArray = field(init=False)
    """int64 [V]: number of occurrences of each token that were masked."""

    def __post_init__(self) -> None:
        """Set all counts to 0."""
        self.seen, self.masked = np.zeros(self.size, dtype=np.int64), np.zeros(self.size, dtype=np.int64)

    def add(self, batch: CorruptedBlocks) -> None:
        """Count a batch."""
        is_masked = batch.labels != IGNORED_LABEL
        original = torch.where(is_masked, batch.labels, batch.input_ids)
        self.masked += np.bincount(batch.labels[is_masked].numpy(), minlength=self.size)
        self.seen += np.bincount(original[batch.is_token].numpy(), minlength=self.size)

    def extremes(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Return the realised masking rate, and the tokens that were masked most and least for their frequency.

        Tokens are ordered by z = (m − n·r) / √(n·r·(1 − r)) for n occurrences, m masked ones and the realised rate r,
        so that rare tokens do not fill both ends.

        Args:
            tokenizer: Names the tokens. Its special tokens do not count.

        Returns:
            `rate`, and `most` and `least`: up to `SHOWN` pairs of a token with `seen`, `masked` and `z`.
        """
        seen, masked = self.seen.copy(), self.masked.copy()
        special = [number for number in tokenizer.all_special_ids if number < self.size]
        seen[special], masked[special] = 0, 0
        rate = float(masked.sum() / seen.sum()) if seen.sum() else 0.0
        expected = seen * rate
        z = (masked - expected) / np.sqrt(np.maximum(expected * (1 - rate), 1e-9))
        known = np.flatnonzero(seen)
        order = known[np.argsort(-z[known], kind="stable")]
        ends = {"most": order[: min(SHOWN, len(order) // 2)], "least": order[::-1][: min(SHOWN, len(order) // 2)]}
        return {"rate": rate} | {
            name: [
                {"token": token, "seen": int(seen[i]), "masked": int(masked[i]), "z": round(float(z[i]), 2)}
                for i, token in zip(ids.tolist(), tokenizer.convert_ids_to_tokens(ids.tolist()), strict=True)
            ]
            for name, ids in ends.items()
        }


@dataclass(frozen=True)
class CountedMasks:
    """Wrapper that leaves `masks` unchanged and counts the masks of each batch."""

    masks: Masks
    counts: MaskCounts

    @property
    def name(self) -> str:
        """Name of the masking."""
        return self.masks.name

    @property
    def lengths(self) -> IntArray:
        """int [F]: tokens of each row, special tokens included."""
        return self.masks.lengths

    def rows_of(self, epoch: int) -> IntArray:
        """Return the row numbers of an epoch, int64 [E]."""
        return self.masks.rows_of(epoch)

    @property
    def token_ids(self) -> Tensor:
        """int64 [N]: all ids that a batch may contain, including the padding id."""
        return self.masks.token_ids

    def start(self, context: TrainingContext, randomness: StreamName, steps: int = 1) -> Batches:
        """Return the function that builds batches, and counts each of them.

        Args:
            context: Context with the model, the vocabulary and the masking settings.
            randomness: Random stream of the masks.
            steps: Number of batches.

        Returns:
            Function from row numbers to a corrupted batch.
        """
        return _CountedBatches(self.masks.start(context, randomness, steps), self.counts)


@dataclass(frozen=True)
class _CountedBatches:
    """Batches that are counted. The counts are part of their state, so a resumed run has the same ones."""

    batches: Batches
    counts: MaskCounts

    def __call__(self, rows: IntArray) -> CorruptedBlocks:
        """Return a batch and count it."""
        batch = self.batches(rows)
        self.counts.add(batch)
        return batch

    def state(self) -> State:
        """Return the state of the batches and the counts."""
        inner = self.batches.state()
        tensors = {f"batches.{name}": tensor for name, tensor in inner.tensors.items()}
        counts = {"counts.seen": self.counts.seen, "counts.masked": self.counts.masked}
        return State({**tensors, **{name: torch.from_numpy(one) for name, one in counts.items()}}, inner.facts)

    def restore(self, state: State) -> None:
        """Restore the batches and the counts from a state; training then continues after its last batch."""
        parts = {
            name.removeprefix("batches."): one for name, one in state.tensors.items() if name.startswith("batches.")
        }
        self.batches.restore(State(parts, state.facts))
        self.counts.seen[:] = state.tensors["counts.seen"].numpy()
        self.counts.masked[:] = state.tensors["counts.masked"].numpy()
