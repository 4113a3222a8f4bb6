"""Counts how often each masking masks each token in repeated draws at the masking rate."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nmg.base.progress import Progress
from nmg.base.seeding import StreamName
from nmg.base.types import BoolArray, FloatArray, IntArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.data.corpus import Corpus
from nmg.inspection.tokens import TokenTable
from nmg.masking.base import Draw, Masking, choose
from nmg.policies.base import Policy
from nmg.policies.sampling import PolicyOutput, perturbed, policy_output
from nmg.training.encoder_cache import CachedEncoder

BLOCKS_AT_A_TIME = 64
POSITIONS_AT_A_TIME = 1 << 18
"""Maximum number of token positions per call of a masking, which limits memory to tens of megabytes."""


READ_FOR_ALL_DRAWS = 1 << 62
"""Number of calls for which a cached LM output is valid: unlimited, because the LM does not change."""


@dataclass(frozen=True)
class Observed:
    """Results of one masking for each token of a `TokenTable` (N tokens, B blocks)."""

    name: str
    about: str
    draws: int
    """Number of draws, at least 2."""
    drawn: IntArray
    """int64 [N]: number of draws that masked each token."""
    probability: FloatArray | None = None
    """float [N]: single-draw probability, the softmax over the tokens of the block; None for a rule."""
    taken: BoolArray | None = None
    """bool [N]: the tokens that a policy with greedy selection masks, the k most probable of each block; None for
    policies that sample and for rules."""

    @property
    def inclusion(self) -> FloatArray:
        """float [N]: estimated probability that the token is masked, from 0 to 1."""
        return self.drawn / self.draws

    @property
    def order(self) -> FloatArray:
        """float [N]: the values by which the tokens of a block are ranked: `probability` if known, or else `inclusion`.

        Both give the same order, because in draws without replacement a more probable token has a higher inclusion.
        """
        return self.inclusion if self.probability is None else self.probability


@dataclass(frozen=True)
class View:
    """A column of the corpus tables: the draws of a masking, or the greedy choice of a policy."""

    name: str
    masking: int
    """Index of the masking among the `Observed`."""
    inclusion: FloatArray
    """float [N]: probability that the token is masked."""
    own_overlap: float
    """Share of the masked tokens that two independent plans of this view have in common, from 0 to 1."""


def views_of(observed: Sequence[Observed]) -> list[View]:
    """Return one view per masking, and a second one per policy with greedy selection for the tokens that it masks."""
    views = []
    for number, one in enumerate(observed):
        pairs = one.draws * (one.draws - 1)
        # Only pairs of different draws: the squared estimate would also count the agreement of each draw with itself.
        shared = float(one.drawn @ (one.drawn - 1)) / pairs
        views.append(View(one.name, number, one.inclusion, shared / max(one.inclusion.sum(), 1)))
        if one.taken is not None:
            views.append(View(f"{one.name}, in use", number, one.taken.astype(float), 1.0))
    return views


def budgets(observed: Observed, table: TokenTable) -> IntArray:
    """Return int64 [B]: number of masked tokens per block, which is the same in every draw of every masking."""
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
    """Draw every masking `draws` times over every block.

    The LM runs only if a policy or rule reads its output, and once for all policies. A batch has blocks of similar
    length.

    Args:
        corpus: The blocks to mask.
        table: The maskable tokens of `corpus`.
        policies: Name → learned policy.
        rules: Name → rule.
        encode: Computes LM states.
        rate: Masking rate, from 0 to 1.
        draws: Number of draws.
        randomness: Stream from which each masking gets a separate stream by its name.
        about: Name → description.
        progress: Receives the number of finished blocks and of all blocks.

    Returns:
        The results of the policies, then those of the rules.
    """
    for_draws = CachedEncoder(encode, READ_FOR_ALL_DRAWS)
    encode = _ReadOnce(encode)
    columns = {name: _Columns(table, policies.get(name)) for name in (*policies, *rules)}
    streams = {name: (randomness / name).generator() for name in columns}
    order = np.argsort(corpus.lengths, kind="stable")
    for first in range(0, len(order), BLOCKS_AT_A_TIME):
        ids = order[first : first + BLOCKS_AT_A_TIME]
        blocks, rows = corpus.blocks(ids), table.rows(ids)
        for name, column in columns.items():
            if name in policies:
                seen = policy_output(policies[name], blocks, encode, rate)
                column.fill_policy(rows, blocks, seen)
                counts = count_draws(Perturbed(seen.logits), blocks, rate, draws, streams[name])
            else:
                plan = partial(rules[name].plan, encode=for_draws)
                counts = count_draws(plan, blocks, rate, draws, streams[name])
            column.drawn[rows] = counts[blocks.is_maskable.numpy()]
        progress(min(first + BLOCKS_AT_A_TIME, len(order)), len(order))
    return [column.observed(name, about[name], draws) for name, column in columns.items()]


class _ReadOnce:
    """A `StateEncoder` that caches the last output, so that the LM runs once per batch for all policies."""

    def __init__(self, encode: StateEncoder) -> None:
        self._encode = encode
        self._read: dict[str, tuple[TokenBlocks, Tensor]] = {}

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        return self._once("states", blocks, self._encode)

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        """Return float32 [B, T, 2]: loss and entropy per token, in nats."""
        return self._once("surprise", blocks, self._encode.surprise)

    def _once(self, what: str, blocks: TokenBlocks, read: Callable[[TokenBlocks], Tensor]) -> Tensor:
        if what not in self._read or self._read[what][0] is not blocks:
            self._read[what] = blocks, read(blocks)
        return self._read[what][1]


@dataclass(frozen=True)
class Perturbed:
    """Draws without replacement from softmax(logits), as a policy does during learning.

    Takes the highest values of logits plus Gumbel noise (Kool, van Hoof, Welling, arXiv 1903.06059). If a call has
    several copies of the blocks (`repeated`), the logits are repeated in the same way.
    """

    logits: Tensor
    """float [B, T], for the blocks before repetition."""

    def __call__(self, blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
        logits = self.logits.repeat(len(blocks) // len(self.logits), 1)
        return choose(perturbed(logits, blocks, rng), blocks, rate)


def count_draws(draw: Draw, blocks: TokenBlocks, rate: float, draws: int, rng: np.random.Generator) -> IntArray:
    """Count how often each position is chosen in `draws` independent plans.

    Args:
        draw: Chooses the positions to mask; it is called with several copies of the blocks at once.
        blocks: B blocks of T tokens.
        rate: Masking rate, from 0 to 1.
        draws: Number of plans.
        rng: Source of randomness.

    Returns:
        int64 [B, T]: counts from 0 to `draws`.
    """
    n_blocks, n_tokens = blocks.input_ids.shape
    counts = torch.zeros(n_blocks, n_tokens, dtype=torch.int64)
    for times in _portions(draws, max(POSITIONS_AT_A_TIME // max(n_blocks * n_tokens, 1), 1)):
        plan = draw(repeated(blocks, times), rate, rng)
        counts += plan.is_masked(n_tokens).view(times, n_blocks, n_tokens).sum(dim=0)
    counted: IntArray = counts.numpy()
    return counted


def repeated(blocks: TokenBlocks, times: int) -> TokenBlocks:
    """Return `times` copies of the whole batch, one after the other."""
    columns = (getattr(blocks, field.name) for field in fields(blocks))
    return TokenBlocks(*(column.repeat(times, *[1] * (column.ndim - 1)) for column in columns))


def _portions(total: int, most: int) -> Iterator[int]:
    """Yield numbers from 1 to `most` that sum to `total`."""
    for done in range(0, total, most):
        yield min(most, total - done)


class _Columns:
    """The columns of an `Observed`, which are filled batch by batch."""

    def __init__(self, table: TokenTable, policy: Policy | None) -> None:
        n_tokens = table.n_tokens
        self.drawn = np.zeros(n_tokens, dtype=np.int64)
        self.probability = None if policy is None else np.zeros(n_tokens)
        is_greedy = policy is not None and policy.acts == "greedy"
        self.taken = np.zeros(n_tokens, dtype=np.bool_) if is_greedy else None

    def fill_policy(self, rows: IntArray, blocks: TokenBlocks, seen: PolicyOutput) -> None:
        """Fill the rows of a batch of blocks with a policy's probabilities and, if it is greedy, its choice.

        Args:
            rows: int [n]: rows of the table for the maskable tokens of the batch.
            blocks: The batch.
            seen: Output of the policy for the batch.
        """
        assert self.probability is not None
        is_maskable = blocks.is_maskable
        self.probability[rows] = seen.probability[is_maskable].numpy()
        if self.taken is not None:
            self.taken[rows] = seen.taken.is_masked(blocks.input_ids.shape[1])[is_maskable].numpy()

    def observed(self, name: str, about: str, draws: int) -> Observed:
        """Return the filled columns as an `Observed`, with a name, a description and the number of draws."""
        return Observed(name, about, draws, self.drawn, self.probability, self.taken)
