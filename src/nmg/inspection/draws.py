"""How often each token is masked: every masking drawn many times over every block, at the budget it is used with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nmg.data.corpus import Corpus
from nmg.inner.kept import KeptSurprise
from nmg.inspection.tokens import TokenTable
from nmg.masking.base import Draw, Masking, choose
from nmg.policies.base import Policy
from nmg.policies.masking import ReadOut, perturbed, read_out
from nmg.reporter import Progress
from nmg.seeding import StreamName
from nmg.types import BoolArray, FloatArray, IntArray, MaskPlan, StateEncoder, TokenBlocks

BLOCKS_AT_A_TIME = 64
POSITIONS_AT_A_TIME = 1 << 18
"""positions of one call of a masking, so that memory stays within tens of megabytes whatever the number of draws"""


READ_FOR_ALL_DRAWS = 1 << 62
"""calls for which a reading of the LM stands: it does not change here"""


@dataclass(frozen=True)
class Observed:
    """What one masking does with each token of a `TokenTable` (N tokens, B blocks)."""

    name: str
    about: str
    draws: int
    drawn: IntArray
    """[N] how many of the draws, two or more, masked the token"""
    probability: FloatArray | None = None
    """[N] of a learned policy: single-draw probability, the softmax over the tokens of the block"""
    taken: BoolArray | None = None
    """[N] of a learned policy: True at the k most probable tokens, what it masks when it acts greedily"""

    @property
    def inclusion(self) -> FloatArray:
        """[N] estimated probability that the token is masked, from 0 to 1"""
        return self.drawn / self.draws

    @property
    def order(self) -> FloatArray:
        """[N] what ranks the tokens of a block: the exact probability where known, else how often they are drawn.

        The two rank alike: of two tokens drawn without replacement the more probable one is drawn more often.
        """
        return self.inclusion if self.probability is None else self.probability


@dataclass(frozen=True)
class View:
    """A column of the corpus tables: a masking as it is drawn, or what a policy masks when it acts greedily."""

    name: str
    masking: int
    """index of the masking"""
    inclusion: FloatArray
    """[N] probability that the token is masked"""
    own_overlap: float
    """share of the masked tokens that two plans of this view have in common"""


def views_of(observed: Sequence[Observed]) -> list[View]:
    """One view a masking, and one more for the greedy choice of each policy."""
    views = []
    for number, one in enumerate(observed):
        pairs = one.draws * (one.draws - 1)
        # Over pairs of different draws: the square of the estimate would count each draw as agreeing with itself.
        shared = float(one.drawn @ (one.drawn - 1)) / pairs
        views.append(View(one.name, number, one.inclusion, shared / max(one.inclusion.sum(), 1)))
        if one.taken is not None:
            views.append(View(f"{one.name}, top k", number, one.taken.astype(float), 1.0))
    return views


def budgets(observed: Observed, table: TokenTable) -> IntArray:
    """[B] masked tokens of each block: the same in every draw of every masking."""
    masked = np.bincount(table.block, weights=observed.drawn, minlength=table.n_blocks)
    return np.round(masked / observed.draws).astype(np.int64)


def observe(
    corpus: Corpus,
    table: TokenTable,
    policies: Mapping[str, Policy],
    rules: Mapping[str, Masking],
    encode: StateEncoder,
    *,
    rate: float,
    draws: int,
    randomness: StreamName,
    about: Mapping[str, str],
    progress: Progress,
) -> list[Observed]:
    """Draw every masking `draws` times over every block: policies first, all on what the LM was read for once.

    The LM runs only where a policy or a rule looks at it. Blocks of similar length share a batch.
    """
    for_draws = KeptSurprise(encode, READ_FOR_ALL_DRAWS)
    encode = _ReadOnce(encode)
    columns = {name: _Columns(table, name in policies) for name in (*policies, *rules)}
    streams = {name: (randomness / name).generator() for name in columns}
    order = np.argsort(corpus.lengths, kind="stable")
    for first in range(0, len(order), BLOCKS_AT_A_TIME):
        ids = order[first : first + BLOCKS_AT_A_TIME]
        blocks, rows = corpus.blocks(ids), table.rows(ids)
        for name, column in columns.items():
            if name in policies:
                seen = read_out(policies[name], blocks, encode, rate)
                column.fill_policy(rows, blocks, seen)
                counts = count_draws(Perturbed(seen.logits), blocks, rate, draws, streams[name])
            else:
                plan = partial(rules[name].plan, encode=for_draws)
                counts = count_draws(plan, blocks, rate, draws, streams[name])
            column.drawn[rows] = counts[blocks.is_maskable.numpy()]
        progress(min(first + BLOCKS_AT_A_TIME, len(order)), len(order))
    return [column.observed(name, about[name], draws) for name, column in columns.items()]


class _ReadOnce:
    """Reads the LM once for a batch, however many policies look at it."""

    def __init__(self, encode: StateEncoder) -> None:
        self._encode = encode
        self._read: dict[str, tuple[TokenBlocks, Tensor]] = {}

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        return self._once("states", blocks, self._encode)

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        return self._once("surprise", blocks, self._encode.surprise)

    def _once(self, what: str, blocks: TokenBlocks, read: Callable[[TokenBlocks], Tensor]) -> Tensor:
        if what not in self._read or self._read[what][0] is not blocks:
            self._read[what] = blocks, read(blocks)
        return self._read[what][1]


@dataclass(frozen=True)
class Perturbed:
    """Draws without replacement from softmax(logits), as a learning policy draws: the highest of logits [B, T] plus
    Gumbel noise (Kool, van Hoof, Welling, arXiv 1903.06059). Also for blocks repeated one after the other.
    """

    logits: Tensor

    def __call__(self, blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
        logits = self.logits.repeat(len(blocks) // len(self.logits), 1)
        return choose(perturbed(logits, blocks, rng), blocks, rate)


def count_draws(draw: Draw, blocks: TokenBlocks, rate: float, draws: int, rng: np.random.Generator) -> IntArray:
    """int64 [B, T]: how often each position is chosen in `draws` independent plans, many of them in one call."""
    n_blocks, n_tokens = blocks.input_ids.shape
    counts = torch.zeros(n_blocks, n_tokens, dtype=torch.int64)
    for times in _portions(draws, max(POSITIONS_AT_A_TIME // max(n_blocks * n_tokens, 1), 1)):
        plan = draw(repeated(blocks, times), rate, rng)
        counts += plan.is_masked(n_tokens).view(times, n_blocks, n_tokens).sum(dim=0)
    counted: IntArray = counts.numpy()
    return counted


def repeated(blocks: TokenBlocks, times: int) -> TokenBlocks:
    """All blocks, then all blocks again, …"""
    columns = (getattr(blocks, field.name) for field in fields(blocks))
    return TokenBlocks(*(column.repeat(times, *[1] * (column.ndim - 1)) for column in columns))


def _portions(total: int, most: int) -> Iterator[int]:
    """`total` in portions of at most `most`."""
    for done in range(0, total, most):
        yield min(most, total - done)


class _Columns:
    """The columns of an `Observed` while they are filled."""

    def __init__(self, table: TokenTable, is_policy: bool) -> None:
        n_tokens = table.n_tokens
        self.drawn = np.zeros(n_tokens, dtype=np.int64)
        self.probability = np.zeros(n_tokens) if is_policy else None
        self.taken = np.zeros(n_tokens, dtype=np.bool_) if is_policy else None

    def fill_policy(self, rows: IntArray, blocks: TokenBlocks, seen: ReadOut) -> None:
        assert self.probability is not None
        assert self.taken is not None
        is_maskable = blocks.is_maskable
        self.probability[rows] = seen.probability[is_maskable].numpy()
        self.taken[rows] = seen.taken.is_masked(blocks.input_ids.shape[1])[is_maskable].numpy()

    def observed(self, name: str, about: str, draws: int) -> Observed:
        return Observed(name, about, draws, self.drawn, self.probability, self.taken)
