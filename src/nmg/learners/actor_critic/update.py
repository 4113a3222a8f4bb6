"""Gradient updates of a policy and its value network from the replay."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer

from nmg.learners.actor_critic.losses import Statistics, total_loss
from nmg.learners.actor_critic.replay import Replay, TransitionBatch
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.actor_critic.value import ValueNetwork
from nmg.policies.base import Policy, log_probabilities


@dataclass(frozen=True)
class UpdateStatistics:
    """Statistics of the updates after one episode. All except `ratio_max` are means over the updates."""

    policy_loss: float
    """The policy's part of the loss (`losses.policy_loss`)."""
    value_loss: float
    """Mean (r - V)², even if the objective has no value loss."""
    entropy: float
    """H of the loss, in nats: sum over the batch of the mean over positions of -p log p."""
    entropy_per_row: float
    """H divided by the batch size."""
    advantage: float
    """Mean |A|."""
    reward: float
    """Mean reward of the sampled transitions."""
    ratio_mean: float
    """Mean importance ratio π_new(a) / π_old(a)."""
    ratio_max: float
    """Maximum importance ratio over all updates."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    age: float
    """Mean age of the sampled transitions, in episodes."""

    def to_dict(self) -> dict[str, float]:
        """Return the fields by name."""
        return asdict(self)


def new_optimiser(policy: Policy, value: ValueNetwork, settings: ActorCriticSettings) -> AdamW:
    """Return an AdamW optimizer over all weights of both networks.

    Args:
        policy: The policy.
        value: The value network.
        settings: Learning rate and weight decay.

    Returns:
        The optimizer.
    """
    return AdamW(
        [*policy.parameters(), *value.parameters()], lr=settings.learning_rate, weight_decay=settings.weight_decay
    )


def update_policy(
    policy: Policy,
    value: ValueNetwork,
    optimiser: Optimizer,
    replay: Replay,
    settings: ActorCriticSettings,
    episode: int,
    rng: np.random.Generator,
) -> UpdateStatistics | None:
    """Update both networks `settings.updates_per_episode` times on the policy's device.

    Each update samples a batch, computes the loss, takes an optimizer step and refreshes the stored values of the
    sampled transitions. If the replay holds fewer transitions than a batch, all of them are used.

    Args:
        policy: The policy to update.
        value: The value network to update.
        optimiser: Optimizer over the weights of both networks.
        replay: The replay to sample from.
        settings: Settings of the learner.
        episode: Index of the current episode, from which ages are counted.
        rng: Generator for sampling from the replay.

    Returns:
        Statistics of the updates, or None if the replay is empty or `settings.updates_per_episode` is 0.
    """
    if len(replay) == 0 or settings.updates_per_episode == 0:
        return None
    collected = []
    for _ in range(settings.updates_per_episode):
        indices = replay.sample(settings.batch_size, rng, settings.replay_weighting)
        batch = replay.batch(indices).to(policy.device)
        values, statistics = _step(policy, value, optimiser, batch, settings)
        statistics["age"] = torch.tensor(replay.mean_age(episode, indices))
        replay.refresh(indices, values)
        collected.append(statistics)
    return _summary(collected)


def _step(
    policy: Policy, value: ValueNetwork, optimiser: Optimizer, batch: TransitionBatch, settings: ActorCriticSettings
) -> tuple[torch.Tensor, Statistics]:
    """Take one optimizer step.

    Args:
        policy: The policy to update.
        value: The value network to update.
        optimiser: Optimizer over the weights of both networks.
        batch: The N transitions.
        settings: Settings of the loss, and the maximum gradient norm.

    Returns:
        The values used in the loss, float [N], and the statistics of the step.
    """
    # Transitions of the same block share its forward pass.
    logits = policy.logits(batch.states, batch.is_token, batch.is_maskable)
    log_prob = log_probabilities(logits, batch.is_maskable)[batch.state_index]
    values = value(batch.states, batch.is_token)[batch.state_index]
    loss, statistics = total_loss(log_prob, values, batch, settings)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    statistics["grad_norm"] = clip_grad_norm_([*policy.parameters(), *value.parameters()], settings.max_grad_norm)
    optimiser.step()
    return values.detach(), statistics


def _summary(collected: Sequence[Statistics]) -> UpdateStatistics:
    of = {name: torch.stack([statistics[name] for statistics in collected]) for name in collected[0]}
    means = {name: float(values.mean()) for name, values in of.items()}
    return UpdateStatistics(**means | {"ratio_max": float(of["ratio_max"].max())})
