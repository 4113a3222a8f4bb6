"""When a frozen opponent becomes the learner, and which of its weights it takes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nmg.base.seeding import StreamName
from nmg.base.types import Episode, TokenBlocks
from nmg.learners.actor_critic.learner import ActorCritic
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.base import LearnerContext
from nmg.policies.sampling import plan_greedily
from support.policies import blocks_of, new_policy
from support.trials import scored

BLOCKS = blocks_of([[5, 6, 7, 8, 9, 10], [9, 10, 5], [7, 8, 9, 5, 6]])
STATES = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))


def new_learner(**settings: Any) -> ActorCritic:
    ground = LearnerContext(new_policy, 0.5, lambda outcome: outcome.score("gain"), StreamName(0), torch.device("cpu"))
    settings = {"self_play": "frozen", "updates_per_episode": 1, "batch_size": 4, "learning_rate": 0.1, **settings}
    return ActorCritic(ActorCriticSettings(**settings), ground)


def encode(_blocks: TokenBlocks) -> Tensor:
    return STATES


def play(learner: ActorCritic, index: int, *, wins: bool) -> set[str]:
    """One episode, which the learner wins or loses against all others; the names of the players."""
    episode = Episode(index, np.arange(3), np.arange(0))
    plans = learner.propose(episode, BLOCKS, encode)  # type: ignore[arg-type]
    scores = {name: float(wins) if name == "learner" else 0.5 for name in plans}
    learner.learn(episode, {name: scored({"gain": score}) for name, score in scores.items()})
    return set(plans)


def weights(learner: ActorCritic) -> tuple[Tensor, Tensor]:
    """All weights of the policies of the learner and the opponent."""
    policies = learner.learner.policy, learner.opponent.policy
    first, second = (torch.cat([w.detach().flatten().clone() for w in policy.parameters()]) for policy in policies)
    return first, second


def test_it_is_the_random_player_until_the_first_win_after_the_replay_has_filled():
    learner = new_learner(learning_starts=10)
    n_transitions, players = [], []
    for index, wins in enumerate([True, False, False, False, True, False]):
        players.append("opponent" in play(learner, index, wins=wins))
        n_transitions.append(len(learner.learner.replay))
    assert n_transitions[0] <= 10 < n_transitions[2], "the win of episode 0 comes too early"
    assert players == [False, False, False, False, False, True]


def test_it_is_the_learner_as_it_played_before_the_update_of_the_episode_that_it_wins():
    learner = new_learner(learning_starts=1)
    for index, wins in enumerate([True, False, True]):
        (that_played, opponent) = weights(learner)
        play(learner, index, wins=wins)
        (updated, now) = weights(learner)
        assert not torch.equal(updated, that_played), "the learner learns in every episode"
        assert torch.equal(now, that_played if wins else opponent)


def test_a_resumed_run_knows_that_it_plays():
    learner, other = new_learner(learning_starts=1), new_learner(learning_starts=1)
    play(learner, 0, wins=True)
    other.restore(learner.save())
    episode = Episode(1, np.arange(3), np.arange(0))
    plan = other.propose(episode, BLOCKS, encode)["opponent"]  # type: ignore[arg-type]
    logits = other.opponent.policy.logits(STATES, BLOCKS.is_token, BLOCKS.is_maskable).detach()
    assert torch.equal(plan.positions, plan_greedily(logits, BLOCKS, 0.5).positions), "it acts by top k"
