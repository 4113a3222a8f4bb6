"""How a policy masks: it draws while it learns, and takes its best tokens once trained."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nmg.masking.base import choose, choose_units, gumbel_noise, number_units, unit_means
from nmg.policies.base import Policy, Unit, log_probabilities, predict
from nmg.types import MaskPlan, StateEncoder, TokenBlocks


class PolicyMasking:
    """A `Masking` by a policy. Nothing here records gradients.

    Args:
        greedy: True takes the positions with the highest logits, False draws from the policy.
        temperature: divides the logits before a draw; higher is nearer to uniform.
    """

    def __init__(self, policy: Policy, *, greedy: bool, name: str = "neural", temperature: float = 1.0) -> None:
        self.name = name
        self.policy = policy
        self.greedy = greedy
        self.temperature = temperature

    @property
    def reads_states(self) -> bool:
        return self.policy.reads_lm

    @torch.no_grad()
    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Choose by what the policy observes. Raises ValueError without `encode`."""
        if encode is None:
            raise ValueError("a policy observes blocks through the language model: it needs `encode`")
        logits = predict(self.policy, self.policy.observe(blocks, encode), blocks)
        logits, unit = logits / self.temperature, self.policy.config.unit
        return plan_greedily(logits, blocks, rate, unit) if self.greedy else draw_plan(logits, blocks, rate, rng, unit)


def draw_by(
    policy: Policy, observation: Tensor, blocks: TokenBlocks, rate: float, rng: np.random.Generator
) -> MaskPlan:
    """What the policy draws, in its unit, by what it has observed of the blocks: float [B, T, F]."""
    return draw_plan(predict(policy, observation, blocks), blocks, rate, rng, policy.config.unit)


def plan_greedily(logits: Tensor, blocks: TokenBlocks, rate: float, unit: Unit = "token") -> MaskPlan:
    """The k positions with the highest logits [B, T], or whole words by the means of theirs, to the same budget."""
    if unit == "word":
        return choose_units(blocks.word_index, over_words(logits, blocks), blocks, rate)
    return _with_log_prob(choose(logits, blocks, rate), logits, blocks)


def draw_plan(
    logits: Tensor, blocks: TokenBlocks, rate: float, rng: np.random.Generator, unit: Unit = "token"
) -> MaskPlan:
    """k positions without replacement from softmax(logits), logits [B, T]; or words, by the means of theirs."""
    if unit == "word":
        return choose_units(blocks.word_index, perturbed(over_words(logits, blocks), blocks, rng), blocks, rate)
    return _with_log_prob(choose(perturbed(logits, blocks, rng), blocks, rate), logits, blocks)


def over_words(logits: Tensor, blocks: TokenBlocks) -> Tensor:
    """float64 [B, T]: at each maskable position the mean of the logits of its word; elsewhere as it was."""
    unit, _ = number_units(blocks.word_index, blocks)
    return unit_means(unit, logits.double())


def _with_log_prob(chosen: MaskPlan, logits: Tensor, blocks: TokenBlocks) -> MaskPlan:
    """The plan, positions of a row in ascending order, with the single-draw log-softmax of each position."""
    log_prob = log_probabilities(logits, blocks.is_maskable).gather(1, chosen.positions.clamp(min=0))
    return MaskPlan(chosen.positions, chosen.budget, log_prob=log_prob.masked_fill(~chosen.is_chosen, 0.0))


def perturbed(logits: Tensor, blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """float64 [B, T]: logits plus Gumbel noise.

    Its k highest entries are k draws without replacement from softmax(logits) (Gumbel top-k: Kool, van Hoof, Welling,
    arXiv 1903.06059).
    """
    return logits.double() + gumbel_noise(blocks, rng)


@dataclass(frozen=True)
class ReadOut:
    """What a policy makes of blocks."""

    logits: Tensor
    """float32 [B, T]"""
    probability: Tensor
    """float64 [B, T]: that a single draw, of a token or a word, takes the position; 0 where it may not be masked"""
    taken: MaskPlan
    """the k most probable positions, or words, which it masks once trained"""


@torch.no_grad()
def read_out(policy: Policy, blocks: TokenBlocks, encode: StateEncoder, rate: float) -> ReadOut:
    """Look at `blocks` as the policy does, on the device of `blocks`."""
    logits = predict(policy, policy.observe(blocks, encode), blocks)
    taken = plan_greedily(logits, blocks, rate, policy.config.unit)
    if policy.config.unit == "token":
        return ReadOut(logits, log_probabilities(logits.double(), blocks.is_maskable).exp(), taken)
    unit, is_first = number_units(blocks.word_index, blocks)
    of_words = log_probabilities(over_words(logits, blocks), is_first).exp()
    by_unit = of_words.new_zeros(len(unit), int(unit.max()) + 2).scatter_add_(1, unit + 1, of_words)
    return ReadOut(logits, by_unit.gather(1, unit + 1).masked_fill(unit < 0, 0.0), taken)
