"""What a masking is, and how scores become a plan with an exact budget.

Every rule ends in one of two choices: `choose` takes the best positions one by one, `choose_units` takes whole units
(words, entities). Both work on a whole batch, and both fill the budget of every block exactly.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nmg.errors import UserError
from nmg.settings import MaskingSettings
from nmg.types import NO_POSITION, BoolArray, FloatArray, IntArray, MaskPlan, StateEncoder, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

_log = logging.getLogger(__name__)

Draw: TypeAlias = Callable[[TokenBlocks, float, np.random.Generator], MaskPlan]
"""blocks, rate, randomness → the positions to mask"""
ReadingDraw: TypeAlias = Callable[[TokenBlocks, float, np.random.Generator, StateEncoder], MaskPlan]
"""the same for a rule that reads the LM"""


class Masking(Protocol):
    """Chooses the positions to mask: `budgets(rate)` maskable positions of each block."""

    @property
    def name(self) -> str: ...

    @property
    def reads_states(self) -> bool:
        """Whether it looks at the language model: `plan` then needs `encode`."""
        ...

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Same blocks, rate and generator state, same plan. `encode` is for maskings that look at the LM."""
        ...


@dataclass(frozen=True)
class Rule:
    """A masking that needs no states of the LM: a name and a function."""

    name: str
    draw: Draw
    reads_words: bool = True
    """False where it does not matter which tokens are of one word"""
    reads_states = False

    def plan(
        self,
        blocks: TokenBlocks,
        rate: float,
        rng: np.random.Generator,
        encode: StateEncoder | None = None,  # noqa: ARG002
    ) -> MaskPlan:
        return self.draw(blocks, rate, rng)


@dataclass(frozen=True)
class ReadingRule:
    """A masking by what the LM makes of the blocks."""

    name: str
    draw: ReadingDraw
    reads_words: bool = True
    reads_states = True

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Raises ValueError without `encode`."""
        if encode is None:
            raise ValueError(f"the masking '{self.name}' reads the language model: it needs `encode`")
        return self.draw(blocks, rate, rng, encode)


class BlockTexts(Protocol):
    """The text behind blocks; a `Corpus` is one."""

    def text(self, block_id: int) -> str: ...

    def offsets(self, block_id: int) -> IntArray:
        """int64 [n_tokens, 2]: the characters of `text(block_id)` each token stands for; (0, 0) at special tokens."""
        ...


@dataclass(frozen=True)
class Ingredients:
    """What a rule may be made from."""

    tokenizer: "PreTrainedTokenizerBase"
    corpus: "Corpus | None"
    """text of the domain, to count words in; None where there is none at hand"""
    settings: MaskingSettings
    texts: BlockTexts
    """text of the blocks that are to be masked"""
    embeddings: Tensor | None = None
    """float [V or more, H], the LM's input embeddings; None where there is no LM at hand"""
    notify: Callable[[str], None] = _log.info
    """called with a line on what a rule found in the text"""

    def counted_corpus(self, masking: str) -> "Corpus":
        """Raises UserError where there is no corpus."""
        if self.corpus is None:
            raise UserError(f"the masking '{masking}' counts words in text of the domain: give it some (texts=…)")
        return self.corpus


def position_noise(blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """float64 [B, T], uniform on [0, 1), for every position whether maskable or not.

    What a stream gives to one position thus never depends on what is maskable or chosen elsewhere.
    """
    return torch.from_numpy(rng.random(tuple(blocks.input_ids.shape))).to(blocks.input_ids.device)


def gumbel_noise(blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """float64 [B, T], standard Gumbel; where `position_noise` is exactly 0 it is -inf, the last in line."""
    return -torch.log(-torch.log(position_noise(blocks, rng)))


def weighted_scores(weights: Tensor, blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """float64 [B, T]: scores whose order is that of draws without replacement, the next one with probability ∝ weight.

    Successive draws are one sort: ln(weight) plus Gumbel noise, highest first (Efraimidis and Spirakis 2006; Kool et
    al. 2019, section 2.3). Weights of 0 come last, in random order.

    Args:
        weights: float [B, T], 0 or more; values at positions that are not maskable do not matter.
    """
    noise = gumbel_noise(blocks, rng)
    return noise + weights.to(noise.device).double().clamp(min=LEAST_WEIGHT).log()


LEAST_WEIGHT = 1e-300
"""stands for a weight of 0, whose logarithm would order nothing"""


def choose(scores: Tensor, blocks: TokenBlocks, rate: float) -> MaskPlan:
    """The maskable positions with the highest scores; of equal scores the lower position.

    Args:
        scores: float [B, T]; values at positions that are not maskable do not matter.

    Returns:
        A plan with the positions of each row in ascending order.
    """
    budget = blocks.budgets(rate)
    n_tokens = blocks.input_ids.shape[1]
    width = int(budget.max()) if len(budget) else 0
    # A maskable position stays above all others even where its score is -inf.
    ranked = scores.clamp(min=torch.finfo(scores.dtype).min).masked_fill(~blocks.is_maskable, -torch.inf)
    best = ranked.sort(dim=1, descending=True, stable=True).indices[:, :width]
    is_chosen = torch.arange(width, device=best.device) < budget[:, None]
    positions = torch.where(is_chosen, best, n_tokens).sort(dim=1).values
    return MaskPlan(positions.masked_fill(~is_chosen, NO_POSITION), budget)


def number_units(unit_of: Tensor, blocks: TokenBlocks) -> tuple[Tensor, Tensor]:
    """Number the units of each block from 0, left to right.

    A unit is a run of adjacent maskable positions with the same value (>= 0) in `unit_of`, int64 [B, T].

    Returns:
        int64 [B, T]: number of the unit, -1 where a position is not maskable or has no unit;
        bool [B, T]: True at the first position of a unit.
    """
    unit = torch.where(blocks.is_maskable, unit_of, -1)
    before = torch.nn.functional.pad(unit, (1, 0), value=-1)[:, :-1]
    is_first = (unit >= 0) & (unit != before)
    return torch.where(unit >= 0, is_first.cumsum(dim=1) - 1, -1), is_first


def unit_sizes(unit: Tensor) -> IntArray:
    """int64 [B, U]: positions of each unit, for `unit` int64 [B, T] from `number_units`; U the most of any block."""
    n_units = int(unit.max()) + 1 if unit.numel() else 0
    sizes = torch.zeros(unit.shape[0], n_units + 1, dtype=torch.int64)
    # Positions without a unit are counted in column 0, which is cut off.
    sizes.scatter_add_(1, unit.cpu() + 1, torch.ones_like(unit, device="cpu"))
    counted: IntArray = sizes.numpy()
    return counted[:, 1:]


def unit_means(unit: Tensor, values: Tensor) -> Tensor:
    """[B, T]: the mean of `values` over the positions of each unit of `number_units`; as it is where there is none."""
    width = int(unit.max()) + 2 if unit.numel() else 1
    zeros = torch.zeros(len(unit), width, dtype=values.dtype, device=values.device)
    sums = zeros.scatter_add(1, unit + 1, values)
    sizes = zeros.scatter_add(1, unit + 1, torch.ones_like(values))
    return torch.where(unit >= 0, (sums / sizes.clamp(min=1)).gather(1, unit + 1), values)


def choose_units(unit_of: Tensor, scores: Tensor, blocks: TokenBlocks, rate: float) -> MaskPlan:
    """Whole units in order of score, then positions without a unit in order of score, to an exact budget.

    BERT's rule for whole words (google-research/bert, `create_masked_lm_predictions`): a unit that does not fit into
    what remains of the budget is skipped. What remains at the end goes to the first positions of the best skipped unit
    (it is larger than the rest, so no second unit is ever cut), or, if none was skipped, to positions without a unit.

    Args:
        unit_of: int64 [B, T]; -1: no unit. A unit is a run of adjacent maskable positions with the same value.
        scores: float [B, T]; the score of a unit is that of its first position. Of equal units the first comes first.
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
    """What becomes of units given in order of preference: 2 taken whole, 1 the best one skipped, 0 others. [B, U]"""
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
    """float64 [B, T]: taken units, then the unit to cut, then positions without a unit by score, then the rest."""
    n_tokens = unit.shape[1]
    by_score = scores.double().argsort(dim=1, stable=True, descending=True)
    rank = torch.empty_like(by_score).scatter_(1, by_score, torch.arange(n_tokens).expand_as(unit).to(unit.device))
    padded = torch.nn.functional.pad(torch.from_numpy(standing), (1, 0)).to(unit.device)
    of_unit = padded.gather(1, unit + 1)
    return torch.where(unit >= 0, torch.where(of_unit > 0, of_unit, -n_tokens), -rank).double()


def pick(is_candidate: BoolArray, uniform: FloatArray) -> IntArray:
    """int64 [B]: one candidate of each row, equally likely, by a number in [0, 1). Rows without candidates give 0.

    Args:
        is_candidate: bool [B, W]
        uniform: float64 [B]
    """
    wanted = (uniform * is_candidate.sum(axis=1)).astype(np.int64)
    is_behind = is_candidate.cumsum(axis=1) > wanted[:, None]
    return np.asarray(is_behind.argmax(axis=1), dtype=np.int64)
