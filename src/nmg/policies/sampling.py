"""Turns the logits of a policy into mask plans, by sampling or by selecting the highest logits."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nmg.base.types import MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import choose, choose_units, gumbel_noise, number_units, unit_means
from nmg.masking.names import LEARNED
from nmg.policies.base import Policy, Unit, log_probabilities, predict


class PolicyMasking:
    """A `Masking` that follows a policy, without gradients.

    Args:
        policy: The policy.
        greedy: True to select the positions with the highest logits, False to sample from the policy.
        name: Name of the masking.
        temperature: Divisor of the logits before sampling; higher values are closer to uniform.
    """

    def __init__(self, policy: Policy, *, greedy: bool, name: str = LEARNED, temperature: float = 1.0) -> None:
        self.name = name
        self.policy = policy
        self.greedy = greedy
        self.temperature = temperature

    @property
    def reads_states(self) -> bool:
        """Whether the policy reads the language model."""
        return self.policy.reads_lm

    @torch.no_grad()
    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        """Plan the masks of blocks.

        Args:
            blocks: The token blocks.
            rate: Fraction of the maskable tokens to mask.
            rng: Generator for sampling; not used if `greedy` is True.
            encode: The LM that the policy may observe. It is required.

        Returns:
            The plan, with log-probabilities if the unit is `token`.

        Raises:
            ValueError: If `encode` is None.
        """
        if encode is None:
            raise ValueError("this policy reads the language model: pass `encode`")
        logits = predict(self.policy, self.policy.observe(blocks, encode), blocks)
        logits, unit = logits / self.temperature, self.policy.config.unit
        return plan_greedily(logits, blocks, rate, unit) if self.greedy else draw_plan(logits, blocks, rate, rng, unit)


def draw_by(
    policy: Policy, observation: Tensor, blocks: TokenBlocks, rate: float, rng: np.random.Generator
) -> MaskPlan:
    """Sample a plan from a policy.

    Args:
        policy: The policy, which also defines the unit (tokens or words).
        observation: float [B, T, F], as returned by `policy.observe`.
        blocks: The B blocks.
        rate: Fraction of the maskable tokens to mask.
        rng: Generator for sampling.

    Returns:
        The plan, with log-probabilities if the unit is `token`.
    """
    return draw_plan(predict(policy, observation, blocks), blocks, rate, rng, policy.config.unit)


def plan_greedily(logits: Tensor, blocks: TokenBlocks, rate: float, unit: Unit = "token") -> MaskPlan:
    """Select the positions or words with the highest logits.

    Args:
        logits: float [B, T].
        blocks: The B blocks.
        rate: Fraction of the maskable tokens to mask, which defines the budget of each block.
        unit: `token` for single positions, `word` for whole words by the mean of their logits.

    Returns:
        The plan, with log-probabilities if the unit is `token`.
    """
    if unit == "word":
        return choose_units(blocks.word_index, over_words(logits, blocks), blocks, rate)
    return _with_log_prob(choose(logits, blocks, rate), logits, blocks)


def draw_plan(
    logits: Tensor, blocks: TokenBlocks, rate: float, rng: np.random.Generator, unit: Unit = "token"
) -> MaskPlan:
    """Sample positions or words without replacement from softmax(logits).

    Args:
        logits: float [B, T].
        blocks: The B blocks.
        rate: Fraction of the maskable tokens to mask, which defines the budget of each block.
        rng: Generator for sampling.
        unit: `token` for single positions, `word` for whole words by the mean of their logits.

    Returns:
        The plan, with log-probabilities if the unit is `token`.
    """
    if unit == "word":
        return choose_units(blocks.word_index, perturbed(over_words(logits, blocks), blocks, rng), blocks, rate)
    return _with_log_prob(choose(perturbed(logits, blocks, rng), blocks, rate), logits, blocks)


def over_words(logits: Tensor, blocks: TokenBlocks) -> Tensor:
    """Replace the logit of each maskable position by the mean over its word, float64 [B, T]; others are unchanged."""
    unit, _ = number_units(blocks.word_index, blocks)
    return unit_means(unit, logits.double())


def _with_log_prob(chosen: MaskPlan, logits: Tensor, blocks: TokenBlocks) -> MaskPlan:
    """Return the plan with the log-softmax of each position, i.e. its log-probability in a single draw."""
    log_prob = log_probabilities(logits, blocks.is_maskable).gather(1, chosen.positions.clamp(min=0))
    return MaskPlan(chosen.positions, chosen.budget, log_prob=log_prob.masked_fill(~chosen.is_chosen, 0.0))


def perturbed(logits: Tensor, blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """Add Gumbel noise to logits.

    The k highest entries of a row are k draws without replacement from softmax(logits) (Gumbel top-k: Kool, van Hoof
    and Welling, arXiv 1903.06059).

    Args:
        logits: float [B, T].
        blocks: The B blocks.
        rng: Generator of the noise.

    Returns:
        float64 [B, T], the noisy logits.
    """
    return logits.double() + gumbel_noise(blocks, rng)


@dataclass(frozen=True)
class PolicyOutput:
    """Logits, probabilities and greedy plan of a policy for a batch of blocks."""

    logits: Tensor
    """float32 [B, T]: logits of the positions; -inf if not maskable."""
    probability: Tensor
    """float64 [B, T]: probability that a single draw selects the token or its word; 0 if not maskable."""
    taken: MaskPlan
    """The plan of the most probable positions or words."""


@torch.no_grad()
def policy_output(policy: Policy, blocks: TokenBlocks, encode: StateEncoder, rate: float) -> PolicyOutput:
    """Compute logits, probabilities and the greedy plan of a policy.

    Args:
        policy: The policy.
        blocks: The B blocks.
        encode: The LM that the policy may observe.
        rate: Fraction of the maskable tokens to mask.

    Returns:
        The output, on the device of `blocks`.
    """
    logits = predict(policy, policy.observe(blocks, encode), blocks)
    taken = plan_greedily(logits, blocks, rate, policy.config.unit)
    if policy.config.unit == "token":
        return PolicyOutput(logits, log_probabilities(logits.double(), blocks.is_maskable).exp(), taken)
    unit, is_first = number_units(blocks.word_index, blocks)
    of_words = log_probabilities(over_words(logits, blocks), is_first).exp()
    by_unit = of_words.new_zeros(len(unit), int(unit.max()) + 2).scatter_add_(1, unit + 1, of_words)
    return PolicyOutput(logits, by_unit.gather(1, unit + 1).masked_fill(unit < 0, 0.0), taken)
