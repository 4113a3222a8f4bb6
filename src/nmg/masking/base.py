"""The interface of maskings, and the conversion of scores into a plan with an exact budget.

Every rule calls one of two functions at its end: `choose` selects single positions, and `choose_units` selects whole
units (words, entities). Both work on a whole batch and fill the budget of every block exactly.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.base.types import NO_POSITION, BoolArray, FloatArray, IntArray, MaskPlan, StateEncoder, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

_log = logging.getLogger(__name__)

Draw: TypeAlias = Callable[[TokenBlocks, float, np.random.Generator], MaskPlan]
"""Maps blocks, a rate and a random generator to the positions to mask."""
ReadingDraw: TypeAlias = Callable[[TokenBlocks, float, np.random.Generator, StateEncoder], MaskPlan]
"""Like `Draw`, with an encoder through which the rule reads the language model (LM)."""


class Masking(Protocol):
    """Selects the positions to mask: `blocks.budgets(rate)` maskable positions per block."""

    @property
    def name(self) -> str:
        """The name of the masking in messages and results."""
        ...

    @property
    def reads_states(self) -> bool:
        """Whether the masking reads the language model; if so, `plan` needs `encode`."""
        ...

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Return the positions to mask.

        Deterministic: equal blocks, rate and generator state give equal plans.

        Args:
            blocks: B blocks of T tokens.
            rate: fraction of the maskable tokens to mask, between 0 and 1.
            rng: source of all randomness.
            encode: reads states of the language model; needed only if `reads_states` is True.

        Returns:
            A plan with `blocks.budgets(rate)` positions per block.
        """
        ...


@dataclass(frozen=True)
class Rule:
    """A masking that does not read the language model: a name and a function."""

    name: str
    draw: Draw
    reads_words: bool = True
    """Whether the rule needs to know which tokens form a word."""
    reads_states = False

    def plan(
        self,
        blocks: TokenBlocks,
        rate: float,
        rng: np.random.Generator,
        encode: StateEncoder | None = None,  # noqa: ARG002
    ) -> MaskPlan:
        """Implement `Masking.plan`; `encode` is ignored."""
        return self.draw(blocks, rate, rng)


@dataclass(frozen=True)
class ReadingRule:
    """A masking that depends on what the language model computes for the blocks."""

    name: str
    draw: ReadingDraw
    reads_words: bool = True
    reads_states = True

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Implement `Masking.plan`. Raises ValueError if `encode` is None."""
        if encode is None:
            raise ValueError(f"the masking '{self.name}' reads the language model: pass `encode`")
        return self.draw(blocks, rate, rng, encode)


class BlockTexts(Protocol):
    """The text of blocks. `Corpus` implements this protocol."""

    def text(self, block_id: int) -> str:
        """The text of one block."""
        ...

    def offsets(self, block_id: int) -> IntArray:
        """int64 [n_tokens, 2]: start and end of each token in `text(block_id)`; (0, 0) for special tokens."""
        ...


@dataclass(frozen=True)
class MaskingContext:
    """Inputs from which a rule can be built."""

    tokenizer: "PreTrainedTokenizerBase"
    corpus: "Corpus | None"
    """Text of the domain, in which rules count words; None if not available."""
    settings: MaskingSettings
    texts: BlockTexts
    """Text of the blocks to be masked."""
    embeddings: Tensor | None = None
    """float [≥ V, H]: input embeddings of the language model; None if there is no model."""
    notify: Callable[[str], None] = _log.info
    """Called with one line that describes what a rule found in the text."""

    def counted_corpus(self, masking: str) -> "Corpus":
        """Return the corpus. Raises UserError, which names `masking`, if there is no corpus."""
        if self.corpus is None:
            raise UserError(f"the masking '{masking}' counts words in text of the domain: pass some (texts=…)")
        return self.corpus


def position_noise(blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """Return float64 [B, T] noise, uniform on [0, 1), for all positions, maskable or not.

    The noise of one position therefore never depends on what is maskable or chosen elsewhere.
    """
    return torch.from_numpy(rng.random(tuple(blocks.input_ids.shape))).to(blocks.input_ids.device)


def gumbel_noise(blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """Return float64 [B, T] standard Gumbel noise. A uniform draw of exactly 0 gives -inf, which is ranked last."""
    return -torch.log(-torch.log(position_noise(blocks, rng)))


def weighted_scores(weights: Tensor, blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """Return scores whose descending order is a weighted random sample without replacement.

    Each next position is drawn with probability ∝ its weight. One sort of ln(weight) plus Gumbel noise replaces the
    successive draws (Efraimidis and Spirakis 2006; Kool et al. 2019, section 2.3). Positions of weight 0 come last, in
    random order.

    Args:
        weights: float [B, T], ≥ 0; values at positions that are not maskable are ignored.
        blocks: B blocks of T tokens.
        rng: source of the noise.

    Returns:
        float64 [B, T].
    """
    noise = gumbel_noise(blocks, rng)
    return noise + weights.to(noise.device).double().clamp(min=LEAST_WEIGHT).log()


LEAST_WEIGHT = 1e-300
"""Replaces a weight of 0, whose logarithm is -inf and would lose the random order."""


def choose(scores: Tensor, blocks: TokenBlocks, rate: float) -> MaskPlan:
    """Select the maskable positions with the highest scores. Ties go to the lower position.

    Args:
        scores: float [B, T]; values at positions that are not maskable are ignored.
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.

    Returns:
        A plan with the positions of each row in ascending order.
    """
    budget = blocks.budgets(rate)
    n_tokens = blocks.input_ids.shape[1]
    width = int(budget.max()) if len(budget) else 0
    # A maskable position ranks above all others even if its score is -inf.
    ranked = scores.clamp(min=torch.finfo(scores.dtype).min).masked_fill(~blocks.is_maskable, -torch.inf)
    best = ranked.sort(dim=1, descending=True, stable=True).indices[:, :width]
    is_chosen = torch.arange(width, device=best.device) < budget[:, None]
    positions = torch.where(is_chosen, best, n_tokens).sort(dim=1).values
    return MaskPlan(positions.masked_fill(~is_chosen, NO_POSITION), budget)


def number_units(unit_of: Tensor, blocks: TokenBlocks) -> tuple[Tensor, Tensor]:
    """Number the units of each block from 0, left to right.

    A unit is a run of adjacent maskable positions with the same value (≥ 0) in `unit_of`, int64 [B, T].

    Returns:
        int64 [B, T]: number of the unit, -1 if a position is not maskable or has no unit.
        bool [B, T]: True at the first position of a unit.
    """
    unit = torch.where(blocks.is_maskable, unit_of, -1)
    before = torch.nn.functional.pad(unit, (1, 0), value=-1)[:, :-1]
    is_first = (unit >= 0) & (unit != before)
    return torch.where(unit >= 0, is_first.cumsum(dim=1) - 1, -1), is_first


def unit_sizes(unit: Tensor) -> IntArray:
    """Return int64 [B, U]: the number of positions in each unit; U is the largest number of units in a block.

    Args:
        unit: int64 [B, T], unit numbers from `number_units`.
    """
    n_units = int(unit.max()) + 1 if unit.numel() else 0
    sizes = torch.zeros(unit.shape[0], n_units + 1, dtype=torch.int64)
    # Column 0 counts positions without a unit and is removed at the end.
    sizes.scatter_add_(1, unit.cpu() + 1, torch.ones_like(unit, device="cpu"))
    counted: IntArray = sizes.numpy()
    return counted[:, 1:]


def unit_means(unit: Tensor, values: Tensor) -> Tensor:
    """Return [B, T]: `values` averaged over the positions of each unit; unchanged at positions without a unit.

    Args:
        unit: int64 [B, T], unit numbers from `number_units`.
        values: float [B, T].
    """
    width = int(unit.max()) + 2 if unit.numel() else 1
    zeros = torch.zeros(len(unit), width, dtype=values.dtype, device=values.device)
    sums = zeros.scatter_add(1, unit + 1, values)
    sizes = zeros.scatter_add(1, unit + 1, torch.ones_like(values))
    return torch.where(unit >= 0, (sums / sizes.clamp(min=1)).gather(1, unit + 1), values)


def choose_units(unit_of: Tensor, scores: Tensor, blocks: TokenBlocks, rate: float) -> MaskPlan:
    """Select whole units by score, then positions without a unit by score, until the budget is exactly full.

    This is BERT's rule for whole words (google-research/bert, `create_masked_lm_predictions`): a unit larger than the
    remaining budget is skipped. The budget that remains at the end goes to the first positions of the best skipped
    unit. That unit is larger than the remainder, so at most one unit per block is cut. If no unit was skipped, the
    remainder goes to positions without a unit.

    Args:
        unit_of: int64 [B, T]; -1 means no unit. A unit is a run of adjacent maskable positions with the same value.
        scores: float [B, T]; a unit has the score of its first position. Ties go to the earlier unit.
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.

    Returns:
        A plan with the positions of each row in ascending order.
    """
    unit, is_first = number_units(unit_of, blocks)
    sizes = unit_sizes(unit)
    rows, columns = np.nonzero(is_first.cpu().numpy())
    unit_scores = np.full(sizes.shape, -np.inf)
    unit_scores[rows, unit.cpu().numpy()[rows, columns]] = scores.cpu().double().numpy()[rows, columns]
    order = np.argsort(-unit_scores, axis=1, kind="stable")
    standing = np.empty_like(order)
    np.put_along_axis(standing, order, _fill(np.take_along_axis(sizes, order, axis=1), blocks.budgets(rate)), axis=1)
    return choose(_priority(standing, unit, scores), blocks, rate)


def _fill(sizes: IntArray, budget: Tensor) -> IntArray:
    """Return [B, U] for units in order of preference: 2 if taken whole, 1 for the best skipped unit, else 0."""
    remaining = budget.cpu().numpy().copy()
    is_taken = np.zeros(sizes.shape, dtype=np.bool_)
    for rank in range(sizes.shape[1]):
        if not remaining.any():
            break
        is_taken[:, rank] = sizes[:, rank] <= remaining
        remaining -= sizes[:, rank] * is_taken[:, rank]
    is_skipped = ~is_taken & (sizes > 0)
    is_best_skipped = is_skipped & (is_skipped.cumsum(axis=1) == 1)
    return np.where(is_taken, np.int64(2), is_best_skipped.astype(np.int64))


def _priority(standing: IntArray, unit: Tensor, scores: Tensor) -> Tensor:
    """Return float64 [B, T] scores that order positions for `choose`.

    Units taken whole come first, then the unit to cut, then positions without a unit by score, then the rest.
    """
    n_tokens = unit.shape[1]
    by_score = scores.double().argsort(dim=1, stable=True, descending=True)
    rank = torch.empty_like(by_score).scatter_(1, by_score, torch.arange(n_tokens).expand_as(unit).to(unit.device))
    padded = torch.nn.functional.pad(torch.from_numpy(standing), (1, 0)).to(unit.device)
    of_unit = padded.gather(1, unit + 1)
    return torch.where(unit >= 0, torch.where(of_unit > 0, of_unit, -n_tokens), -rank).double()


def pick(is_candidate: BoolArray, uniform: FloatArray) -> IntArray:
    """Select one candidate per row, uniformly. Rows without candidates give 0.

    Args:
        is_candidate: bool [B, W], True for the columns to select from.
        uniform: float64 [B], a random number in [0, 1) per row.

    Returns:
        int64 [B]: the selected column.
    """
    wanted = (uniform * is_candidate.sum(axis=1)).astype(np.int64)
    is_behind = is_candidate.cumsum(axis=1) > wanted[:, None]
    return np.asarray(is_behind.argmax(axis=1), dtype=np.int64)
