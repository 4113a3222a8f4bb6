"""Leans of an episode: by hand, and in the plans of the players."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmg.base.seeding import StreamName
from nmg.base.types import Episode, MaskPlan, TokenBlocks
from nmg.learners.actor_critic.exploration import parameter_noise
from nmg.learners.actor_critic.learner import ActorCritic
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.base import LearnerContext
from nmg.policies.base import Policy, log_probabilities, predict
from nmg.policies.sampling import draw_plan, plan_greedily
from support.policies import blocks_of, new_policy
from support.trials import scored

BLOCKS = blocks_of([[5, 6, 7, 8, 9, 10], [9, 10, 5], [7, 8, 9, 5, 6]])
STATES = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_lean_by_hand() -> None:
    """The first feature is 1, 3, 3, 1 at the maskable tokens of both blocks: -1, 1, 1, -1. The second is the same."""
    is_maskable = torch.tensor([[False, True, True], [True, True, False]])
    first = torch.tensor([[100.0, 1.0, 3.0], [3.0, 1.0, -100.0]])
    observation = torch.stack([first, torch.full((2, 3), 0.1)], dim=2)
    found = parameter_noise(observation, is_maskable, np.random.default_rng(0))
    u = np.random.default_rng(0).standard_normal(2)[0] / np.sqrt(2)
    torch.testing.assert_close(found, torch.tensor([[0, -u, u], [u, -u, 0]], dtype=torch.float32))


def test_a_lean_has_a_mean_square_of_one_over_tokens_and_draws() -> None:
    rng = np.random.default_rng(0)
    leans = [parameter_noise(STATES * 7 + 3, BLOCKS.is_maskable, rng)[BLOCKS.is_maskable] for _ in range(2000)]
    assert float(torch.stack(leans).square().mean()) == pytest.approx(1.0, rel=0.05)
    assert float(torch.stack(leans).mean(dim=1).abs().max()) < 1e-5


@pytest.mark.parametrize("is_maskable", [torch.zeros(3, 8, dtype=torch.bool), torch.eye(3, 8, dtype=torch.bool)[:1]])
def test_without_two_tokens_there_is_nothing_to_lean_to(is_maskable: Tensor) -> None:
    assert not parameter_noise(STATES[: len(is_maskable)], is_maskable, np.random.default_rng(0)).any()


def new_actor_critic(**settings: Any) -> ActorCritic:
    ground = LearnerContext(new_policy, 0.5, lambda outcome: outcome.score("gain"), StreamName(0), torch.device("cpu"))
    return ActorCritic(ActorCriticSettings(learning_starts=1, updates_per_episode=1, batch_size=4, **settings), ground)


def episode(index: int) -> Episode:
    return Episode(index, np.arange(3), np.arange(0))


def encode(blocks: TokenBlocks) -> Tensor:
    return STATES


def plans_of(learner: ActorCritic, index: int) -> dict[str, MaskPlan]:
    return learner.propose(episode(index), BLOCKS, encode)  # type: ignore[arg-type]


def after_an_episode(*order: str, **settings: Any) -> ActorCritic:
    """After an episode that the last player of `order` has won; by default the random player."""
    learner = new_actor_critic(**settings)
    plans_of(learner, 0)
    scores = {name: scored({"gain": n}) for n, name in enumerate(order or ["learner", "random"])}
    learner.learn(episode(0), scores)
    return learner


def expected(policy: Policy, name: str, spread: float, index: int = 1) -> MaskPlan:
    """The plan of a player that leans, each step made again."""
    stream = StreamName(0) / "episode" / index
    leans = parameter_noise(STATES, BLOCKS.is_maskable, (stream / "lean" / name).generator())
    logits = predict(policy, STATES, BLOCKS) + spread * leans
    return draw_plan(logits, BLOCKS, 0.5, (stream / "actions" / name).generator())


def is_same_plan(one: MaskPlan, two: MaskPlan) -> bool:
    if one.log_prob is None or two.log_prob is None:
        return False
    return torch.equal(one.positions, two.positions) and torch.equal(one.log_prob, two.log_prob)


def test_an_episode_leans_each_learning_player_its_own_way() -> None:
    learner = after_an_episode(exploration="parameter-noise", exploration_std=3.0)
    plans = plans_of(learner, 1)
    for player in (learner.learner, learner.opponent):
        assert is_same_plan(plans[player.name], expected(player.policy, player.name, 3.0))
        assert not is_same_plan(plans[player.name], expected(player.policy, player.name, 2.0))


def test_stored_log_probabilities_are_those_of_the_policy_that_acted() -> None:
    learner = new_actor_critic(exploration="parameter-noise")
    plan = plans_of(learner, 0)["learner"]
    leans = parameter_noise(
        STATES, BLOCKS.is_maskable, (StreamName(0) / "episode" / 0 / "lean" / "learner").generator()
    )
    logits = predict(learner.policy, STATES, BLOCKS) + 2.0 * leans
    log_prob = log_probabilities(logits, BLOCKS.is_maskable)
    outcomes = {name: scored({"gain": n}) for n, name in enumerate(["learner", "random"])}
    learner.learn(episode(0), outcomes)
    stored = learner.learner.replay.transitions_state()
    rows, columns = stored["row"].long(), stored["position"].long()
    torch.testing.assert_close(stored["log_prob"], log_prob[rows, columns])
    assert plan.log_prob is not None
    assert len(rows) > 0


def test_by_default_nobody_leans() -> None:
    learner, other = after_an_episode(), after_an_episode(exploration_std=9.0)
    plans, others = plans_of(learner, 1), plans_of(other, 1)
    assert set(plans) == {"learner", "random", "opponent"}
    for player in (learner.learner, learner.opponent):
        assert is_same_plan(plans[player.name], expected(player.policy, player.name, 0.0))
        assert is_same_plan(plans[player.name], others[player.name])


def test_a_frozen_opponent_does_not_explore() -> None:
    learner = after_an_episode("random", "learner", exploration="parameter-noise", self_play="frozen")
    greedy = plan_greedily(predict(learner.opponent.policy, STATES, BLOCKS), BLOCKS, 0.5)
    assert is_same_plan(plans_of(learner, 1)["opponent"], greedy)
