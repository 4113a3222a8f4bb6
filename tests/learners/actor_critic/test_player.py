"""A learning player: how it begins, and that a restored one continues as the one that was saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.learners.actor_critic.player import HIDDEN, Player
from nmg.learners.actor_critic.replay import StateShard, token_counts
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.base import LearnerContext
from nmg.meta_training import run as meta_training
from nmg.meta_training.loop import MetaTraining
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.policies.base import Policy, predict
from nmg.policies.linear import LinearConfig, LinearPolicy
from nmg.policies.sampling import draw_plan
from nmg.trials.session import Session
from support.policies import blocks_of
from support.runs import Inputs, is_same, record_facts

BLOCKS = blocks_of([[5, 6, 7, 8], [9, 10, 5]])
STATES = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


def attention_policy() -> AttentionPolicy:
    return AttentionPolicy(AttentionConfig(hidden_size=8, num_attention_heads=2, head_hidden=16))


def new_player(name: str = "learner", policy: Any = attention_policy, seed: int = 0, **settings: Any) -> Player:
    ground = LearnerContext(policy, 0.5, lambda outcome: 0.0, StreamName(seed), torch.device("cpu"))
    return Player.create(
        name, ActorCriticSettings(learning_starts=1, updates_per_episode=2, batch_size=3, **settings), ground
    )


def remember(player: Player, episode: int) -> None:
    """A made-up episode."""
    rng = np.random.default_rng(episode)
    plan = draw_plan(predict(player.policy, STATES, BLOCKS), BLOCKS, 0.5, rng)
    reward = torch.from_numpy(rng.normal(size=tuple(plan.positions.shape)))
    values, counts = player.value.predict(STATES, BLOCKS), token_counts(BLOCKS, plan)
    player.replay.add(episode, StateShard.pack(STATES, BLOCKS), plan, values, reward, plan.is_chosen, counts)


def networks_are_same(one: Player, two: Player) -> bool:
    return is_same(one.policy, two.policy) and is_same(one.value, two.value)


def test_the_seed_and_the_name_draw_the_networks() -> None:
    player = new_player()
    assert networks_are_same(player, new_player())
    for other in (new_player("opponent"), new_player(seed=1)):
        assert not is_same(player.policy, other.policy)
        assert not is_same(player.value, other.value)


def linear_policy() -> Policy:
    return LinearPolicy(LinearConfig(vocabulary_size=12))


@pytest.mark.parametrize(
    ("policy", "settings", "n_inputs", "n_hidden"),
    [
        (attention_policy, {}, 8, 16),
        (attention_policy, {"value_hidden": 4}, 8, 4),
        (linear_policy, {}, len(LinearConfig().features), HIDDEN),
    ],
)
def test_the_value_network_is_as_wide_as_asked_for(
    policy: Any, settings: dict[str, int], n_inputs: int, n_hidden: int
) -> None:
    value = new_player(policy=policy, **settings).value
    assert tuple(value.head[0].weight.shape) == (n_hidden, n_inputs)


def test_nothing_is_learned_until_the_replay_holds_enough() -> None:
    player = new_player()
    assert player.learn(0) is None
    remember(player, 0)
    assert player.learn(0) is not None


def test_a_restored_player_goes_on_to_the_bit() -> None:
    player, restored = new_player(), new_player(seed=1)
    for episode in range(2):
        remember(player, episode)
        player.learn(episode)
    files = player.to_files()
    assert set(files) == {f"learner-{part}" for part in ("policy", "value", "optimiser", "replay")}
    copies = {name: {key: tensor.clone() for key, tensor in tensors.items()} for name, tensors in files.items()}
    restored.restore(copies, player.replay.shards)
    restored.ground = player.ground
    for episode in range(2, 4):
        assert networks_are_same(player, restored)
        for name, tensors in player.to_files().items():
            assert is_same(tensors, restored.to_files()[name]), name
        for one in (player, restored):
            remember(one, episode)
        assert player.learn(episode) == restored.learn(episode)


@pytest.mark.parametrize("missing", ["learner-policy", "learner-value", "learner-optimiser", "learner-replay"])
def test_a_missing_file_is_named(missing: str) -> None:
    player = new_player()
    files = {name: tensors for name, tensors in player.to_files().items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        new_player().restore(files, {})


def new_training(inputs: Inputs) -> MetaTraining:
    return MetaTraining(Session.prepare(inputs.config(), Silent()))


def all_tensors(training: MetaTraining) -> dict[str, Tensor]:
    players = (training.learner.learner, training.learner.opponent)
    files = {name: tensors for player in players for name, tensors in player.to_files().items()}
    files |= {f"shard-{key}": shard.to_tensors() for one in players for key, shard in one.replay.shards.items()}
    files["lm"] = training.lm_state
    return {f"{file}.{name}": tensor for file, tensors in files.items() for name, tensor in tensors.items()}


def test_a_checkpoint_restores_the_training(inputs: Inputs, tmp_path: Path) -> None:
    """And the next episode is the very one that would have followed."""
    training, restored = new_training(inputs), new_training(inputs)
    for _ in range(3):
        training.episode()
    meta_training.checkpoint(training, tmp_path)
    (checkpoint,) = (tmp_path / "checkpoints").glob("episode-*")
    assert (checkpoint / "learner-value.safetensors").is_file()
    meta_training.restore(restored, tmp_path, Silent())
    assert restored.next_episode == 3
    assert restored.learner.score_noise == training.learner.score_noise
    assert training.learner.score_noise.recent
    assert is_same(all_tensors(restored), all_tensors(training))
    assert record_facts(restored.episode()) == record_facts(training.episode())
    assert is_same(all_tensors(restored), all_tensors(training))
