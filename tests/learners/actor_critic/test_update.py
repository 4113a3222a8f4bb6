"""The update loop: one step against a slow version, and a bandit with a known answer."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from nmg.base.types import MaskPlan, TokenBlocks
from nmg.learners.actor_critic.replay import Replay, StateShard, token_counts
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.actor_critic.update import UpdateStatistics, new_optimiser, update_policy
from nmg.policies.attention import INITIAL_SPREAD, AttentionPolicy
from nmg.policies.base import log_probabilities, predict
from nmg.policies.sampling import draw_plan
from support.policies import blocks_of

from .helpers import Networks

GOOD, BAD = 5, 6
N_TOKENS = 10


def _bandit_states(blocks: TokenBlocks, rng: np.random.Generator) -> Tensor:
    """States that tell the good tokens from the bad ones, under noise."""
    embedding = torch.from_numpy(np.random.default_rng(7).normal(size=(8, 16)).astype(np.float32))
    noise = torch.from_numpy(rng.normal(size=(*blocks.input_ids.shape, 16)).astype(np.float32))
    return embedding[blocks.input_ids] + 0.3 * noise


def _bandit_blocks(rng: np.random.Generator) -> TokenBlocks:
    return blocks_of([rng.permutation([GOOD] * 4 + [BAD] * 4).tolist() for _ in range(16)])


def _bandit_networks() -> Networks:
    return Networks.new(hidden_size=16, spread=INITIAL_SPREAD)


def _draw(
    policy: AttentionPolicy, blocks: TokenBlocks, states: Tensor, rate: float, rng: np.random.Generator
) -> MaskPlan:
    return draw_plan(predict(policy, states, blocks), blocks, rate, rng)


def _good_probability(policy: AttentionPolicy) -> float:
    """Probability that one draw takes a good token; 0.5 for a policy that knows nothing."""
    rng = np.random.default_rng(99)
    blocks = _bandit_blocks(rng)
    with torch.no_grad():
        logits = policy.logits(_bandit_states(blocks, rng), blocks.is_token, blocks.is_maskable)
    return float(logits.softmax(1)[blocks.input_ids == GOOD].sum() / len(blocks))


def _train_on_bandit(sign: float, settings: ActorCriticSettings, episodes: int = 5) -> float:
    """Reward `sign` for a good token and -`sign` for a bad one; returns the probability of good tokens after it."""
    policy, value = _bandit_networks()
    optimiser = new_optimiser(policy, value, settings)
    replay, rng = Replay(500, 100), np.random.default_rng(0)
    for episode in range(episodes):
        blocks = _bandit_blocks(rng)
        states = _bandit_states(blocks, rng)
        plan = _draw(policy, blocks, states, 0.25, rng)
        is_good = blocks.input_ids.gather(1, plan.positions) == GOOD
        reward = torch.where(is_good, sign, -sign)
        shard = StateShard.pack(states, blocks)
        values = value.predict(states, blocks)
        replay.add(episode, shard, plan, values, reward, plan.is_chosen, token_counts(blocks, plan))
        statistics = update_policy(policy, value, optimiser, replay, settings, 0, rng)
        assert statistics is not None
        assert all(np.isfinite(getattr(statistics, field.name)) for field in fields(UpdateStatistics))
    return _good_probability(policy)


@pytest.mark.parametrize("objective", ["actor-critic", "policy-gradient"])
@pytest.mark.parametrize("importance_ratio", [True, False])
def test_the_bandit_is_learned_in_both_directions(objective: str, importance_ratio: bool) -> None:
    settings = ActorCriticSettings(
        objective=objective, importance_ratio=importance_ratio, learning_rate=3e-3, updates_per_episode=4, batch_size=32
    )
    assert _good_probability(_bandit_networks().policy) == pytest.approx(0.5, abs=0.05)
    assert _train_on_bandit(1.0, settings) > 0.8
    assert _train_on_bandit(-1.0, settings) < 0.2


def _tiny_replay(networks: Networks, n_blocks: int = 6) -> Replay:
    rng = np.random.default_rng(0)
    blocks = blocks_of([rng.integers(3, 9, size=rng.integers(2, 8)).tolist() for _ in range(n_blocks)])
    states = torch.from_numpy(rng.normal(size=(*blocks.input_ids.shape, 8)).astype(np.float32))
    plan = _draw(networks.policy, blocks, states, 0.5, rng)
    reward = torch.from_numpy(rng.integers(-1, 2, size=plan.positions.shape).astype(np.float32))
    replay = Replay(100, 100)
    values = networks.value.predict(states, blocks)
    replay.add(0, StateShard.pack(states, blocks), plan, values, reward, plan.is_chosen, token_counts(blocks, plan))
    return replay


def _slow_step(networks: Networks, replay: Replay, indices: np.ndarray, settings: ActorCriticSettings) -> float:
    """One plain gradient step, each transition on its own unpadded block. Returns the norm of the gradient."""
    total = torch.zeros(())
    for index in indices.tolist():
        one = replay.batch(np.array([index])).to(torch.device("cpu"))
        logits = networks.policy.logits(one.states, one.is_token, one.is_maskable)
        value = networks.value(one.states, one.is_token)
        log_prob = log_probabilities(logits, one.is_maskable)[0]
        ratio = (log_prob[one.position] - one.log_prob).exp()
        p = log_prob[one.is_maskable[0]]
        loss = -((one.reward - value).detach() * ratio) + 0.25 * (one.reward - value) ** 2
        total = total + loss.squeeze() / len(indices) + 0.01 * (p.exp() * p).mean()
    total.backward()
    norm = torch.sqrt(sum((weight.grad**2).sum() for weight in networks.parameters()))
    with torch.no_grad():
        for weight in networks.parameters():
            weight.sub_(settings.learning_rate * min(1.0, settings.max_grad_norm / float(norm)) * weight.grad)
    return float(norm)


def _update(
    networks: Networks, replay: Replay, settings: ActorCriticSettings, episode: int, seed: int
) -> UpdateStatistics | None:
    optimiser = new_optimiser(*networks, settings)
    return update_policy(*networks, optimiser, replay, settings, episode, np.random.default_rng(seed))


def test_one_update_is_that_of_the_slow_version() -> None:
    settings = ActorCriticSettings(updates_per_episode=1, batch_size=5, max_grad_norm=0.05, learning_rate=1.0)
    networks = Networks.new()
    before = networks.copy()
    replay = _tiny_replay(networks)
    indices = replay.sample(5, np.random.default_rng(4), "advantage")
    batch = replay.batch(indices).to(torch.device("cpu"))
    slow = networks.copy()
    norm = _slow_step(slow, replay, indices, settings)
    # AdamW would blow up the rounding of gradients that ought to be 0, such as that of the last bias of the logits.
    optimiser = torch.optim.SGD(networks.parameters(), lr=settings.learning_rate)
    statistics = update_policy(*networks, optimiser, replay, settings, 0, np.random.default_rng(4))
    assert statistics is not None
    assert statistics.grad_norm == pytest.approx(norm, rel=1e-4)
    assert norm > settings.max_grad_norm, "the gradient was clipped"
    moved = 0.0
    for ours, theirs, old in zip(networks.parameters(), slow.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
        moved += float((ours - old).detach().square().sum())
    assert moved**0.5 == pytest.approx(0.05, rel=1e-3), "a step of the clipped length"
    # The values kept are those before the step.
    with torch.no_grad():
        expected = before.value(batch.states, batch.is_token)[batch.state_index]
    torch.testing.assert_close(replay.batch(indices).value, expected)


def test_the_optimiser_is_adamw_over_all_weights() -> None:
    networks = Networks.new()
    optimiser = new_optimiser(*networks, ActorCriticSettings(learning_rate=3e-4, weight_decay=0.1))
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (3e-4, 0.1)
    assert {id(weight) for weight in group["params"]} == {id(weight) for weight in networks.parameters()}
    assert len(group["params"]) == len(networks.parameters()), "the networks share no weights"


def test_before_the_first_step_the_importance_ratio_is_one() -> None:
    """The only difference is the rounding of stored states."""
    networks = Networks.new()
    settings = ActorCriticSettings(updates_per_episode=1, batch_size=64, replay_weighting="uniform")
    statistics = _update(networks, _tiny_replay(networks), settings, 0, seed=0)
    assert statistics is not None
    assert statistics.ratio_mean == pytest.approx(1.0, abs=2e-3)
    assert statistics.ratio_max == pytest.approx(1.0, abs=1e-2)


def test_the_age_is_that_of_the_transitions_drawn() -> None:
    """Mean over the updates, each draw known from its stream."""
    networks = Networks.new()
    replay = _tiny_replay(networks)
    blocks = blocks_of([[3, 4, 5, 6]])
    states = torch.zeros(1, 6, 8)
    plan = _draw(networks.policy, blocks, states, 0.9, np.random.default_rng(0))
    shard, values = StateShard.pack(states, blocks), networks.value.predict(states, blocks)
    replay.add(4, shard, plan, values, torch.ones(plan.positions.shape), plan.is_chosen, token_counts(blocks, plan))
    keys = replay.transitions_state()["shard"].numpy()
    assert set(keys) == {0, 4}
    settings = ActorCriticSettings(updates_per_episode=3, batch_size=5, replay_weighting="uniform")
    rng = np.random.default_rng(3)
    drawn = [replay.sample(5, rng, "uniform") for _ in range(3)]
    expected = np.mean([6 - keys[indices].mean() for indices in drawn])
    statistics = _update(networks, replay, settings, 6, seed=3)
    assert statistics is not None
    assert statistics.age == pytest.approx(expected)
    assert 2 < statistics.age < 6


def test_only_drawn_transitions_are_refreshed() -> None:
    networks = Networks.new()
    replay = _tiny_replay(networks)
    n = len(replay)
    replay.refresh(np.arange(n), torch.full((n,), 9.0))
    settings = ActorCriticSettings(updates_per_episode=1, batch_size=3, replay_weighting="uniform")
    drawn = replay.sample(3, np.random.default_rng(2), "uniform")
    _update(networks, replay, settings, 0, seed=2)
    is_old = replay.batch(np.arange(n)).value == 9.0
    assert (~is_old).nonzero().squeeze(1).tolist() == sorted(drawn.tolist())


def test_a_policy_gradient_leaves_the_value_network_alone() -> None:
    networks = Networks.new()
    before = networks.copy()
    settings = ActorCriticSettings(objective="policy-gradient", updates_per_episode=2, replay_weighting="reward")
    _update(networks, _tiny_replay(networks), settings, 0, seed=0)
    for (name, ours), theirs in zip(networks.policy.named_parameters(), before.policy.parameters(), strict=True):
        assert not torch.equal(ours, theirs), name
    for (name, ours), theirs in zip(networks.value.named_parameters(), before.value.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def test_nothing_to_do() -> None:
    networks = Networks.new()
    before = networks.copy()
    no_updates = ActorCriticSettings(updates_per_episode=0)
    rng = np.random.default_rng(0)
    optimiser = new_optimiser(*networks, no_updates)
    assert update_policy(*networks, optimiser, _tiny_replay(networks), no_updates, 0, rng) is None
    assert update_policy(*networks, optimiser, Replay(10, 10), ActorCriticSettings(), 0, rng) is None
    assert all(torch.equal(one, two) for one, two in zip(networks.parameters(), before.parameters(), strict=True))


def test_the_same_stream_gives_the_same_updates() -> None:
    def run() -> tuple[Networks, UpdateStatistics | None]:
        networks = Networks.new()
        return networks, _update(
            networks, _tiny_replay(networks), ActorCriticSettings(updates_per_episode=3, batch_size=4), 0, seed=1
        )

    (one, first), (two, second) = run(), run()
    assert first == second
    assert first is not None
    assert set(first.to_dict()) == {field.name for field in fields(UpdateStatistics)}
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
