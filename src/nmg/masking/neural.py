"""Masking by a learned policy.

While it learns, a policy draws k positions without replacement from softmax(logits); once trained it takes the k best.
"""

import numpy as np
import torch
from torch import Tensor

from nmg.data.corpus import Corpus
from nmg.masking.base import MaskingPolicy, choose, position_noise
from nmg.rl.network import MaskPolicy, log_probabilities
from nmg.types import NO_POSITION, IntArray, MaskPlan, StateEncoder, TokenBlocks

_CHUNK = 64
"""blocks given to the policy at once"""


class NeuralMasking:
    """A `MaskingPolicy` on hidden states. Nothing here records gradients.

    Args:
        greedy: True takes the positions with the highest logits, False draws from the policy.
    """

    name = "neural"
    reads_states = True

    def __init__(self, policy: MaskPolicy, *, greedy: bool) -> None:
        self.policy = policy
        self.greedy = greedy

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """As `plan_from_states`, on the states that `encode` gives. Raises ValueError without `encode`."""
        if encode is None:
            raise ValueError("the neural masking reads hidden states: it needs `encode`")
        return self.plan_from_states(blocks, encode(blocks), rate, rng)

    @torch.no_grad()
    def plan_from_states(self, blocks: TokenBlocks, states: Tensor, rate: float, rng: np.random.Generator) -> MaskPlan:
        """Choose positions by states [B, T, H] of these blocks, on any device.

        Returns:
            A plan on the device of `blocks`, positions of a row in ascending order, with the single-draw log-softmax of
            each position and the value of each block.
        """
        logits, values = predict(self.policy, states, blocks)
        chosen = choose(logits if self.greedy else perturbed(logits, blocks, rng), blocks, rate)
        log_prob = log_probabilities(logits, blocks.is_maskable).gather(1, chosen.positions.clamp(min=0))
        log_prob = log_prob.masked_fill(~chosen.is_chosen, 0.0)
        return MaskPlan(chosen.positions, chosen.budget, log_prob=log_prob, value=values)


@torch.no_grad()
def predict(policy: MaskPolicy, states: Tensor, blocks: TokenBlocks) -> tuple[Tensor, Tensor]:
    """Logits [B, T] and values [B], float32 on the device of `blocks`, a few blocks at a time to save memory."""
    inputs = (states, blocks.is_token, blocks.is_maskable)
    columns = zip(*(torch.split(tensor, _CHUNK) for tensor in inputs), strict=True)
    parts = [policy(*(column.to(policy.device) for column in chunk)) for chunk in columns]
    logits, values = (torch.cat(part).float().to(blocks.input_ids.device) for part in zip(*parts, strict=True))
    return logits, values


class PlannedMasking:
    """Choices made beforehand for every block of a corpus: the same masks in every epoch.

    Args:
        positions: int64 [blocks of the corpus, K], -1 behind a block's budget.
        budget: int64 [blocks of the corpus].
        rate: share of tokens that was planned for; `plan` takes no other.
    """

    def __init__(self, name: str, positions: Tensor, budget: Tensor, rate: float) -> None:
        self.name = name
        self._positions, self._budget, self._rate = positions, budget, rate

    def plan(
        self,
        blocks: TokenBlocks,
        rate: float,
        rng: np.random.Generator,  # noqa: ARG002
        encode: StateEncoder | None = None,  # noqa: ARG002
    ) -> MaskPlan:
        """The choices for `blocks`, found by their ids. Raises ValueError for another rate than was planned for."""
        if rate != self._rate:
            raise ValueError(f"masks were planned for a rate of {self._rate}, not {rate}")
        budget = self._budget[blocks.block_ids]
        n_columns = int(budget.max()) if len(budget) else 0
        return MaskPlan(self._positions[blocks.block_ids, :n_columns], budget)


def plan_ahead(
    policy: MaskingPolicy,
    corpus: Corpus,
    rate: float,
    rng: np.random.Generator,
    encode: StateEncoder,
    batch_size: int,
) -> PlannedMasking:
    """Let `policy` choose once for the whole corpus, by the states that the LM has now.

    Blocks of similar length share a batch, so this is cheaper than what a policy costs in one epoch of training.
    """
    plans: list[tuple[IntArray, MaskPlan]] = []
    order = np.argsort(-corpus.lengths, kind="stable")
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        plans.append((rows, policy.plan(corpus.blocks(rows), rate, rng, encode)))
    n_columns = max(plan.positions.shape[1] for _, plan in plans)
    positions = torch.full((len(corpus), n_columns), NO_POSITION)
    budget = torch.zeros(len(corpus), dtype=torch.int64)
    for rows, plan in plans:
        positions[rows, : plan.positions.shape[1]] = plan.positions
        budget[rows] = plan.budget
    return PlannedMasking(policy.name, positions, budget, rate)


def perturbed(logits: Tensor, blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """float64 [B, T]: logits plus Gumbel noise.

    Its k highest entries are k draws without replacement from softmax(logits) (Gumbel top-k: Kool, van Hoof, Welling,
    arXiv 1903.06059).
    """
    return logits.double() - position_noise(blocks, rng).log().neg().log()
