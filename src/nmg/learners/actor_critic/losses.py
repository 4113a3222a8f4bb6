"""Loss of the actor-critic: pure functions of tensors that return the loss and named statistics.

L = -mean(A · ρ) + value_coef · mean (r - V)² - entropy_coef · H          (arXiv 2010.02705, section 3.4)
"""

from typing import TypeAlias

import torch
from torch import Tensor

from nmg.learners.actor_critic.replay import TransitionBatch
from nmg.learners.actor_critic.settings import ActorCriticSettings

Statistics: TypeAlias = dict[str, Tensor]
"""Name → scalar tensor without gradient."""


def policy_loss(
    new_log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    importance_ratio: bool,
    clip_range: float | None = None,
) -> tuple[Tensor, Statistics]:
    """Return the off-policy gradient loss, with ρ = exp(log π_new(a) - log π_old(a)).

        importance_ratio:  -mean(A · ρ)
        otherwise:         -mean(A · ρ · log π_new(a)), no gradient through ρ
        clip_range c:      -mean(min(A · ρ, A · clip(ρ, 1 - c, 1 + c)))      (arXiv 1707.06347, equation 7)

    The first two have the same gradient. The second is the alternative objective of the original code. The third is a
    clipped version of the first.

    Args:
        new_log_prob: float [N], log π_new(a), with gradient.
        old_log_prob: float [N], log π_old(a). No gradient flows through it.
        advantage: float [N], A. No gradient flows through it.
        importance_ratio: Whether the loss differentiates ρ instead of log π_new(a).
        clip_range: Clipping range c, only valid with `importance_ratio`. None disables clipping.

    Returns:
        The scalar loss, and the statistics `ratio_mean` and `ratio_max` of the ratios before clipping.
    """
    advantage = advantage.detach()
    ratio = (new_log_prob - old_log_prob.detach()).exp()
    gain = advantage * (ratio if importance_ratio else ratio.detach() * new_log_prob)
    if clip_range is not None:
        gain = torch.minimum(gain, advantage * ratio.clamp(1 - clip_range, 1 + clip_range))
    statistics = {"ratio_mean": ratio.detach().mean(), "ratio_max": ratio.detach().max()}
    return -gain.mean(), statistics


def value_loss(reward: Tensor, value: Tensor) -> Tensor:
    """Return the mean of (r - V)² for `reward` r and `value` V, both float [N]."""
    return (reward - value).square().mean()


def entropy(log_prob: Tensor, is_maskable: Tensor) -> Tensor:
    """Return H: the sum over rows of the mean over maskable positions of -p log p, in nats.

    Args:
        log_prob: float [N, T], -inf at positions that are not maskable (see `policies.base.log_probabilities`).
        is_maskable: bool [N, T], True for tokens that may be masked.

    Returns:
        The scalar H. Rows without a maskable position add 0.
    """
    # Replace -inf before multiplying, because the gradient of 0 · -inf is NaN.
    finite = log_prob.masked_fill(~is_maskable, 0.0)
    terms = (-finite.exp() * finite).masked_fill(~is_maskable, 0.0)
    return (terms.sum(dim=1) / is_maskable.sum(dim=1).clamp(min=1)).sum()


def total_loss(
    log_prob: Tensor, value: Tensor, batch: TransitionBatch, settings: ActorCriticSettings
) -> tuple[Tensor, Statistics]:
    """Return L = policy loss + value_coef · value loss - entropy_coef · H.

    For the objective `actor-critic`, A = r - V, without gradient. For `policy-gradient`, A = r and there is no value
    loss.

    Args:
        log_prob: float [N, T], log-probabilities of all positions of each transition's block; -inf if not maskable.
        value: float [N], V of each transition's block.
        batch: The N transitions.
        settings: Objective, coefficients and clipping range.

    Returns:
        The scalar loss, and all statistics of `update.UpdateStatistics` except the gradient norm and the age.
    """
    has_critic = settings.objective == "actor-critic"
    advantage = batch.reward - value.detach() if has_critic else batch.reward
    taken = log_prob.gather(1, batch.position[:, None]).squeeze(1)
    of_policy, statistics = policy_loss(
        taken, batch.log_prob, advantage, settings.importance_ratio, settings.clip_range
    )
    of_value = value_loss(batch.reward, value)
    spread = entropy(log_prob, batch.is_maskable[batch.state_index])
    loss = of_policy - settings.entropy_coef * spread
    if has_critic:
        loss = loss + settings.value_coef * of_value
    statistics |= {
        "policy_loss": of_policy.detach(),
        "value_loss": of_value.detach(),
        "entropy": spread.detach(),
        "entropy_per_row": spread.detach() / len(batch.reward),
        "advantage": advantage.abs().mean(),
        "reward": batch.reward.mean(),
    }
    return loss, statistics
