"""The replay: what it holds, what it drops, how it draws."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from nmg.base.types import MaskPlan
from nmg.learners.actor_critic.replay import Replay, StateShard, Weighting, token_counts
from support.policies import PAD, blocks_of

from .helpers import plan_of

WEIGHTINGS: tuple[Weighting, ...] = ("advantage", "reward", "value", "reward-advantage", "value-advantage", "uniform")


def _shard(n_blocks: int, seed: int = 0) -> StateShard:
    blocks = blocks_of([[7] * 8] * n_blocks)
    states = torch.randn(n_blocks, 10, 4, generator=torch.Generator().manual_seed(seed))
    return StateShard.pack(states, blocks)


def _plan(n_blocks: int, n_actions: int, seed: int = 0) -> tuple[MaskPlan, Tensor]:
    """A plan, and the values of its blocks."""
    rng = np.random.default_rng(seed)
    log_prob = torch.from_numpy(rng.normal(size=(n_blocks, n_actions)).astype(np.float32))
    values = torch.from_numpy(rng.normal(size=n_blocks).astype(np.float32))
    return plan_of([sorted(rng.permutation(8)[:n_actions] + 1) for _ in range(n_blocks)], log_prob), values


def _filled(
    episodes: int, n_blocks: int = 3, n_actions: int = 4, capacity: int = 1000, max_states: int = 1000
) -> Replay:
    """Every episode stores n_blocks · n_actions transitions with random rewards, values and counts."""
    replay = Replay(capacity, max_states)
    for episode in range(episodes):
        rng = np.random.default_rng(episode)
        reward = torch.from_numpy(rng.normal(size=(n_blocks, n_actions)).astype(np.float32))
        count = torch.from_numpy(rng.integers(1, 5, size=(n_blocks, n_actions)))
        plan, values = _plan(n_blocks, n_actions, episode)
        replay.add(episode, _shard(n_blocks, episode), plan, values, reward, plan.is_chosen, count)
    return replay


def _column(replay: Replay, name: str) -> list[float]:
    return replay.transitions_state()[name].tolist()


def test_a_shard_holds_the_tokens_of_each_block_and_nothing_else() -> None:
    blocks = blocks_of([[5, 6, 7], [8], []])
    states = torch.randn(3, 5, 4)
    shard = StateShard.pack(states, blocks)
    assert len(shard) == 3
    for b, n in enumerate((5, 3, 2)):
        found, is_maskable = shard.block(b)
        assert torch.equal(found, states[b, :n].half())
        assert is_maskable.tolist() == [False] + [True] * (n - 2) + [False]
    assert shard.nbytes == 10 * (4 * 2 + 1) + 4 * 8
    again = StateShard.from_tensors(load(save(shard.to_tensors())))
    assert all(torch.equal(one, two) for one, two in zip(vars(again).values(), vars(shard).values(), strict=True))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e5])
def test_states_that_float16_cannot_hold_are_refused(bad: float) -> None:
    states = torch.zeros(1, 4, 2)
    states[0, 1, 0] = bad
    with pytest.raises(ValueError, match="float16"):
        StateShard.pack(states, blocks_of([[5, 6]]))


def test_token_counts_are_counts_within_the_block() -> None:
    blocks = blocks_of([[5, 6, 5, 5, 6], [5, 6, 6], [PAD]])
    counts = token_counts(blocks, plan_of([[1, 2, 4], [1, 3], [1]]))
    # In the last block the id that also fills the padding is a token, once.
    assert counts.tolist() == [[3, 2, 3], [1, 2, 0], [1, 0, 0]]


def test_a_batch_gives_back_what_was_stored() -> None:
    blocks = blocks_of([[5, 6, 7], [8, 9, 9, 9]])
    states = torch.randn(2, 6, 4)
    log_prob = torch.tensor([[-1.0, -2.0], [-3.0, 0.0]])
    plan, values = plan_of([[1, 3], [2]], log_prob), torch.tensor([0.5, -0.5])
    reward, is_stored = torch.tensor([[1.0, -1.0], [0.0, 0.0]]), torch.tensor([[True, True], [True, False]])
    replay = Replay(10, 10)
    replay.add(3, StateShard.pack(states, blocks), plan, values, reward, is_stored, token_counts(blocks, plan))
    assert len(replay) == 3
    assert _column(replay, "token_count") == [1, 1, 3]
    held = replay.batch(np.array([2, 1, 0]))
    assert held.states.dtype == torch.float16, "as it travels to a GPU"
    batch = held.to(torch.device("cpu"))
    assert batch.states.dtype == torch.float32
    assert batch.position.tolist() == [2, 3, 1]
    assert batch.log_prob.tolist() == [-3.0, -2.0, -1.0]
    assert batch.reward.tolist() == [0.0, -1.0, 1.0]
    assert batch.value.tolist() == [-0.5, 0.5, 0.5]
    assert batch.states.shape == (2, 6, 4)
    assert torch.equal(batch.is_token[batch.state_index], blocks.is_token[[1, 0, 0]])
    assert torch.equal(batch.is_maskable[batch.state_index], blocks.is_maskable[[1, 0, 0]])
    expected = (states * blocks.is_token[:, :, None]).half().float()[[1, 0, 0]]
    assert torch.equal(batch.states[batch.state_index], expected)


def test_ties_are_stored_and_actions_that_earn_nothing_else_are_not() -> None:
    replay = Replay(10, 10)
    plan, values = _plan(1, 3)
    replay.add(0, _shard(1), plan, values, torch.zeros(1, 3), torch.tensor([[True, False, True]]), torch.ones(1, 3))
    assert _column(replay, "reward") == [0.0, 0.0]


def test_first_in_first_out() -> None:
    replay = _filled(episodes=3, capacity=20)
    everything = _filled(episodes=3)
    assert len(replay) == 20
    for name in everything.transitions_state():
        assert _column(replay, name) == _column(everything, name)[-20:]


def test_a_shard_goes_with_its_last_transition() -> None:
    assert list(_filled(episodes=4, capacity=25).shards) == [1, 2, 3]
    assert list(_filled(episodes=4, capacity=24).shards) == [2, 3]
    assert list(_filled(episodes=4, capacity=1).shards) == [3]


def test_an_episode_that_stores_nothing_leaves_no_shard() -> None:
    replay = _filled(episodes=1)
    plan, values = _plan(3, 4)
    replay.add(1, _shard(3), plan, values, torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bool), torch.ones(3, 4))
    assert list(replay.shards) == [0]
    assert len(replay) == 12


def test_beyond_the_states_the_oldest_shards_go_with_their_transitions() -> None:
    replay = _filled(episodes=5, max_states=7)
    assert replay.n_states == 6
    assert list(replay.shards) == [3, 4]
    assert set(_column(replay, "shard")) == {3, 4}
    assert list(_filled(episodes=5, max_states=2).shards) == [4], "the newest stays"


def test_two_replays_share_a_shard() -> None:
    shard, (plan, values) = _shard(3), _plan(3, 4)
    replays = Replay(100, 100), Replay(100, 100)
    for replay in replays:
        replay.add(0, shard, plan, values, torch.ones(3, 4), plan.is_chosen, torch.ones(3, 4))
    assert replays[0].shards[0] is replays[1].shards[0]
    replays[0].refresh(np.arange(12), torch.zeros(12))
    assert _column(replays[1], "value") != _column(replays[0], "value")


def test_what_cannot_be_stored_is_refused() -> None:
    replay, (plan, values) = _filled(episodes=2), _plan(3, 4)
    rest = values, torch.ones(3, 4), plan.is_chosen, torch.ones(3, 4)
    with pytest.raises(ValueError, match="shard 0 comes after shard 1"):
        replay.add(0, replay.shards[0], plan, *rest)
    with pytest.raises(ValueError, match="another shard"):
        replay.add(1, _shard(3), plan, *rest)
    with pytest.raises(ValueError, match="log-prob"):
        replay.add(2, _shard(3), plan_of([[1], [2], [3]]), *rest)
    with pytest.raises(ValueError, match="4 blocks"):
        replay.add(2, _shard(4), plan, *rest)


def _slow_weights(replay: Replay, weighting: Weighting) -> list[float]:
    columns = (_column(replay, name) for name in ("reward", "value", "token_count"))
    rows = list(zip(*columns, strict=True))
    priority = {
        "advantage": [np.exp(abs(r - v)) for r, v, _ in rows],
        "reward": [np.exp(r) for r, _, _ in rows],
        "value": [np.exp(v) for _, v, _ in rows],
    }
    if weighting == "uniform":
        return [1.0] * len(rows)
    parts = [np.array(priority[name]) / sum(priority[name]) for name in weighting.split("-")]
    return list(sum(parts) / np.sqrt([count for _, _, count in rows]))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_weights_are_those_of_the_slow_version(weighting: Weighting) -> None:
    replay = _filled(episodes=2)
    expected = np.array(_slow_weights(replay, weighting))
    found = np.exp(replay.log_weights(weighting))
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum())


def test_great_rewards_do_not_overflow() -> None:
    replay = _filled(episodes=1)
    replay.refresh(np.arange(12), torch.full((12,), 1e4))
    for weighting in WEIGHTINGS:
        assert np.isfinite(replay.log_weights(weighting)).all()


def _slow_draws(weights: list[float], n: int, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each index is drawn first, and drawn at all, one draw after the other without replacement."""
    rng = np.random.default_rng(1)
    first, drawn = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(repeats):
        left = dict(enumerate(weights))
        for step in range(n):
            keys, values = list(left), np.array(list(left.values()))
            key = keys[rng.choice(len(keys), p=values / values.sum())]
            del left[key]
            first[key] += step == 0
            drawn[key] += 1
    return first / repeats, drawn / repeats


def test_draws_without_replacement_are_those_of_the_slow_version() -> None:
    replay, n, repeats = _filled(episodes=1), 4, 8000
    rng = np.random.default_rng(0)
    first, drawn = np.zeros(12), np.zeros(12)
    for _ in range(repeats):
        indices = replay.sample(n, rng, "advantage")
        assert len(set(indices.tolist())) == n
        first[indices[0]] += 1 / repeats
        drawn[indices] += 1 / repeats
    weights = _slow_weights(replay, "advantage")
    slow_first, slow_drawn = _slow_draws(weights, n, repeats)
    # Four standard errors of the difference of two frequencies.
    bound = 4 * np.sqrt(2 * 0.25 / repeats)
    np.testing.assert_allclose(first, np.array(weights) / sum(weights), atol=bound)
    np.testing.assert_allclose(first, slow_first, atol=bound)
    np.testing.assert_allclose(drawn, slow_drawn, atol=bound)
    assert drawn.max() - drawn.min() > 5 * bound, "the weights differ enough to tell a uniform draw"


def test_fewer_transitions_than_asked_for_are_all_drawn() -> None:
    replay = _filled(episodes=1)
    for n in (12, 64):
        assert sorted(replay.sample(n, np.random.default_rng(0), "reward")) == list(range(12))
    assert len(Replay(5, 5).sample(3, np.random.default_rng(0), "advantage")) == 0


def test_refreshed_values_change_what_is_drawn() -> None:
    replay = _filled(episodes=1)
    replay.refresh(np.array([3, 5]), torch.tensor([40.0, 40.0]))
    assert set(replay.sample(2, np.random.default_rng(0), "value")) == {3, 5}
    assert replay.batch(np.array([5])).value.tolist() == [40.0]


def _same(one: Tensor, two: Tensor) -> bool:
    return one.dtype == two.dtype and torch.equal(one, two)


def test_a_restored_replay_behaves_to_the_bit_as_the_original() -> None:
    original = _filled(episodes=6, capacity=40, max_states=10)
    shards = {key: StateShard.from_tensors(load(save(shard.to_tensors()))) for key, shard in original.shards.items()}
    restored = Replay(40, 10)
    restored.restore(load(save(original.transitions_state())), shards)
    assert list(restored.shards) == list(original.shards)
    assert restored.nbytes == original.nbytes
    plan, values = _plan(3, 4, seed=9)
    random_numbers = [np.random.default_rng(5), np.random.default_rng(5)]
    for episode in range(6, 9):
        batches = []
        for replay, rng in zip((original, restored), random_numbers, strict=True):
            indices = replay.sample(8, rng, "advantage")
            batches.append(vars(replay.batch(indices)))
            replay.refresh(indices, torch.arange(8.0) / 3)
            replay.add(episode, _shard(3, episode), plan, values, torch.ones(3, 4), plan.is_chosen, torch.ones(3, 4))
        assert all(_same(batches[0][name], batches[1][name]) for name in batches[0])
    one, two = original.transitions_state(), restored.transitions_state()
    assert all(_same(one[name], two[name]) for name in one)


def test_transitions_whose_states_are_lost_are_left_out() -> None:
    original, restored = _filled(episodes=4), Replay(1000, 1000)
    kept = {key: shard for key, shard in original.shards.items() if key != 1}
    restored.restore(original.transitions_state(), kept)
    assert list(restored.shards) == [0, 2, 3]
    before, after = original.transitions_state(), restored.transitions_state()
    is_kept = before["shard"] != 1
    assert 0 < int(is_kept.sum()) < len(is_kept)
    assert all(_same(after[name], before[name][is_kept]) for name in before)


def test_ages_are_counted_in_episodes() -> None:
    replay = _filled(episodes=3, n_blocks=1, n_actions=2)  # keys 0, 0, 1, 1, 2, 2
    assert replay.mean_age(2) == 1.0
    assert replay.mean_age(5) == 4.0
    assert replay.mean_age(2, np.array([0, 4, 5])) == pytest.approx(2 / 3)
    assert replay.mean_age(4, np.array([2])) == 3.0
    small = _filled(episodes=5, n_blocks=1, n_actions=2, capacity=3)  # keys 3, 4, 4
    assert small.mean_age(4) == pytest.approx(1 / 3)
    assert math.isnan(Replay(5, 5).mean_age(3))
