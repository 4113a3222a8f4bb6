"""Updates of a policy from its replay."""

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
    """Means over the updates after one episode, except `ratio_max`."""

    policy_loss: float
    value_loss: float
    """mean (r - V)², also where the objective has no value loss"""
    entropy: float
    """H of the loss: sum over the batch of the mean over positions of -p log p"""
    entropy_per_row: float
    """H divided by the size of the batch"""
    advantage: float
    """mean |A|"""
    reward: float
    """mean reward of the transitions drawn"""
    ratio_mean: float
    """importance ratio π_new(a) / π_old(a)"""
    ratio_max: float
    """the largest importance ratio of all updates"""
    grad_norm: float
    """norm of the gradient before it is clipped"""
    age: float
    """for how many episodes the replay has held the transitions drawn"""

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def new_optimiser(policy: Policy, value: ValueNetwork, settings: ActorCriticSettings) -> AdamW:
    """AdamW over all weights of both networks."""
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
    """`settings.updates` times: draw, compute the loss, step, refresh the values of what was drawn.

    A replay with fewer transitions than a batch gives all of them. Works on the policy's device. `episode` is the one
    just played, from which ages are counted.

    Returns:
        Statistics, or None where there was nothing to do: an empty replay, or no updates asked for.
    """
    if len(replay) == 0 or settings.updates == 0:
        return None
    collected = []
    for _ in range(settings.updates):
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
    """One optimiser step. Returns the values, float [N], that the loss was computed with, and statistics."""
    # Transitions of one block share its forward pass.
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
