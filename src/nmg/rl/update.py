"""Updates of a policy from its replay."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer

from nmg.config import PolicySettings
from nmg.rl.losses import Statistics, total_loss
from nmg.rl.network import MaskPolicy, log_probabilities
from nmg.rl.replay import Replay, TransitionBatch, Weighting


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


def new_optimiser(policy: MaskPolicy, settings: PolicySettings) -> AdamW:
    """AdamW over all weights of the policy."""
    return AdamW(policy.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def update_policy(
    policy: MaskPolicy,
    optimiser: Optimizer,
    replay: Replay,
    settings: PolicySettings,
    weighting: Weighting,
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
        indices = replay.sample(settings.batch_size, rng, weighting)
        batch = replay.batch(indices).to(policy.device)
        values, statistics = _step(policy, optimiser, batch, settings)
        statistics["age"] = torch.tensor(replay.mean_age(episode, indices))
        replay.refresh(indices, values)
        collected.append(statistics)
    return _summary(collected)


def _step(
    policy: MaskPolicy, optimiser: Optimizer, batch: TransitionBatch, settings: PolicySettings
) -> tuple[torch.Tensor, Statistics]:
    """One optimiser step. Returns the values, float [N], that the loss was computed with, and statistics."""
    # Transitions of one block share its forward pass.
    logits, values = policy(batch.states, batch.is_token, batch.is_maskable)
    log_prob = log_probabilities(logits, batch.is_maskable)[batch.state_index]
    values = values[batch.state_index]
    loss, statistics = total_loss(log_prob, values, batch, settings)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    statistics["grad_norm"] = clip_grad_norm_(policy.parameters(), settings.max_grad_norm)
    optimiser.step()
    return values.detach(), statistics


def _summary(collected: Sequence[Statistics]) -> UpdateStatistics:
    of = {name: torch.stack([statistics[name] for statistics in collected]) for name in collected[0]}
    means = {name: float(values.mean()) for name, values in of.items()}
    return UpdateStatistics(**means | {"ratio_max": float(of["ratio_max"].max())})
