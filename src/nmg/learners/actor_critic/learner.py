"""The learner of the paper: off-policy actor-critic with self-play (arXiv 2010.02705, section 3).

Three players mask the same contexts: the learner, whose policy is kept, the random player, and the opponent. The
opponent equals the random player until the learner's replay has filled. With `self_play: frozen` it stays the random
player until the learner wins for the first time after that. Each action of the learner is credited with the comparisons
against the players that did not take it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from nmg.base.trial import TrialResult
from nmg.base.types import Episode, MaskPlan, StateEncoder, TokenBlocks
from nmg.learners.actor_critic.exploration import parameter_noise
from nmg.learners.actor_critic.player import Player
from nmg.learners.actor_critic.replay import StateShard, token_counts
from nmg.learners.actor_critic.reward import ScoreNoise, credit, credit_by_case, difference_reward, sign_reward
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.base import LearnerCapabilities, LearnerContext, LearnerDefaults, LearnerState, RunForecast
from nmg.masking.base import Masking
from nmg.masking.rules import RandomMasking
from nmg.policies.base import Policy, predict
from nmg.policies.sampling import draw_plan, plan_greedily


@dataclass(frozen=True)
class _Proposal:
    """The data about a proposed episode that `learn` needs."""

    blocks: TokenBlocks
    states: Tensor
    """float [B, T, F]: observations of the policy."""
    plans: Mapping[str, MaskPlan]
    """Player name → plan. There is no entry for the opponent while it is the random player."""


class ActorCritic(LearnerDefaults):
    """An actor-critic that learns from a replay of scored masks."""

    # Off-policy: each stored action has its log-probability under the policy that chose it.
    capabilities = LearnerCapabilities(max_players=3, leader="learner", off_policy=True)

    def __init__(self, settings: ActorCriticSettings, ground: LearnerContext) -> None:
        self.settings, self.ground = settings, ground
        self.learner = Player.create("learner", settings, ground)
        self.opponent = Player.create("opponent", settings, ground)
        self.score_noise = ScoreNoise()
        self._is_frozen_set = False  # True once a frozen opponent is a copy of the learner
        self._random = _rival(settings, ground)
        self._proposed: dict[int, _Proposal] = {}

    @property
    def policy(self) -> Policy:
        """The policy of the player `learner`."""
        return self.learner.policy

    def forecast(self, episodes: int) -> RunForecast:
        """Forecast the players per episode and the number of shards in the replay.

        The opponent counts from the first episode, because the replay fills quickly. The replay grows to its limits.
        """
        replay, settings = self.learner.replay, self.settings
        n_shards = max(len(replay.shards), 1)  # one per episode
        full = min(settings.replay_capacity / max(len(replay), 1), settings.replay_max_states / max(replay.n_states, 1))
        players = 2 if settings.self_play == "random" else 3
        return RunForecast([players] * episodes, min(episodes, math.ceil(full * n_shards)))

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan]:
        """Propose the masks of each player. Players share the states but use separate sampling noise.

        Args:
            episode: The episode to run.
            blocks: The B blocks of the episode, T tokens each.
            encode: The LM that the policy may observe.

        Returns:
            The plans of `learner`, `random` and, if the opponent is a policy, `opponent`.
        """
        states = self.policy.observe(blocks, encode)
        random = self._random.plan(blocks, self.ground.rate, self._noise(episode, "random"))
        plans = {"learner": self._plan(self.learner, blocks, states, episode), "random": random}
        if self._opponent_plays():
            plans["opponent"] = self._plan(self.opponent, blocks, states, episode)
        self._proposed[episode.index] = _Proposal(blocks, states, plans)
        return plans

    def learn(self, episode: Episode, outcomes: Mapping[str, TrialResult]) -> dict[str, Any]:
        """Compute rewards, assign credit to each action, and update the networks from the replay.

        An episode in which a player's training diverged is skipped, because the comparison is incomplete.
        """
        proposal, index = self._proposed.pop(episode.index), episode.index
        if set(outcomes) < set(proposal.plans):
            return {"transitions": len(self.learner.replay), "states": self.learner.replay.n_states}
        blocks, plans, n_tokens = proposal.blocks, proposal.plans, proposal.blocks.input_ids.shape[1]
        opponent_plays = "opponent" in plans
        learner, random, opponent = plans["learner"], plans["random"], plans.get("opponent", plans["random"])
        scores = {player: self.ground.score(outcome) for player, outcome in outcomes.items()}
        scores.setdefault("opponent", scores["random"])

        # 1. Rewards: how the learner compares with each other player.
        self.score_noise.observe(scores["learner"] - scores["random"])
        if opponent_plays:
            self.score_noise.observe(scores["learner"] - scores["opponent"])
        against_opponent = self._reward(scores["learner"], scores["opponent"])
        against_random = self._reward(scores["learner"], scores["random"])

        # 2. Credit for each action. Actions are stored with their states, which both replays share.
        reward, is_stored = credit(learner, opponent, random, against_opponent, against_random, n_tokens)
        shard = StateShard.pack(proposal.states, blocks)
        self._remember(self.learner, index, shard, proposal, reward, is_stored)
        if opponent_plays and self.settings.self_play == "learning":
            swapped = (
                self._reward(scores["opponent"], scores["learner"]),
                self._reward(scores["opponent"], scores["random"]),
            )
            of_opponent = credit(opponent, learner, random, *swapped, n_tokens)
            self._remember(self.opponent, index, shard, proposal, *of_opponent)

        # 3. A beaten frozen opponent becomes a copy of the learner, taken before the learner learns from this episode.
        if self.settings.self_play == "frozen" and against_opponent > 0 and self._has_filled():
            self.opponent.policy.load_state_dict(self.learner.policy.state_dict())
            self._is_frozen_set = True

        # 4. Learn from the replay.
        learner_update = self.learner.learn(index)
        opponent_update = self.opponent.learn(index) if self.settings.self_play == "learning" else None

        replay = self.learner.replay
        record = {
            "reward_opponent": against_opponent,
            "reward_random": against_random,
            # mean over the learner's stored actions
            "mean_reward": float(reward[is_stored].mean()) if bool(is_stored.any()) else 0.0,
            # fraction of the learner's actions that are stored; every player chose the others
            "stored_share": float(is_stored.sum()) / max(int(learner.budget.sum()), 1),
            "credit": credit_by_case(learner, opponent, random, reward, n_tokens),
            "transitions": len(replay),
            "states": replay.n_states,
            # mean age of the transitions in the learner's replay, in episodes
            "replay_age": replay.mean_age(index) if len(replay) else None,
            "learner_update": learner_update.to_dict() if learner_update else None,
            "opponent_update": opponent_update.to_dict() if opponent_update else None,
        }
        return {name: value for name, value in record.items() if value is not None}

    def save(self) -> LearnerState:
        """Return both players, their shared shards, the score noise and the state of a frozen opponent."""
        shards = {**self.opponent.replay.shards, **self.learner.replay.shards}
        return LearnerState(
            files=self.learner.to_files() | self.opponent.to_files(),
            facts={"score_noise": asdict(self.score_noise), "is_frozen_set": self._is_frozen_set},
            immutable={_shard_name(key): shard.to_tensors for key, shard in shards.items()},
        )

    def restore(self, saved: LearnerState) -> None:
        """Restore the state that `save` returned. Transitions whose shard is missing are dropped."""
        shards = {_shard_key(name): StateShard.from_tensors(read()) for name, read in saved.immutable.items()}
        for player in (self.learner, self.opponent):
            player.restore(saved.files, shards)
        self.score_noise = ScoreNoise.from_facts(saved.facts["score_noise"])
        self._is_frozen_set = saved.facts["is_frozen_set"]

    def _has_filled(self) -> bool:
        """Return whether the learner's replay holds more than `learning_starts` transitions."""
        return len(self.learner.replay) > self.settings.learning_starts

    def _opponent_plays(self) -> bool:
        """Return whether the opponent is a policy and no longer the random player."""
        if self.settings.self_play == "frozen":
            return self._is_frozen_set
        return self.settings.self_play == "learning" and self._has_filled()

    def _noise(self, episode: Episode, player: str) -> np.random.Generator:
        """Return the generator of a player's sampling noise, the only random stream that players do not share.

        A new policy is nearly uniform. With shared noise it would choose the same masks as the random player, and all
        of its actions would be dropped as uninformative.
        """
        return (self.ground.randomness / "episode" / episode.index / "actions" / player).generator()

    def _plan(self, player: Player, blocks: TokenBlocks, states: Tensor, episode: Episode) -> MaskPlan:
        """Plan the masks of a learning player; a frozen opponent plans greedily."""
        logits = predict(player.policy, states, blocks)
        if player is self.opponent and self.settings.self_play == "frozen":
            return plan_greedily(logits, blocks, self.ground.rate)
        if self.settings.exploration == "parameter-noise":
            rng = (self.ground.randomness / "episode" / episode.index / "lean" / player.name).generator()
            logits = logits + self.settings.exploration_std * parameter_noise(states, blocks.is_maskable, rng)
        return draw_plan(logits, blocks, self.ground.rate, self._noise(episode, player.name))

    def _remember(
        self, player: Player, index: int, shard: StateShard, proposal: _Proposal, reward: Tensor, is_stored: Tensor
    ) -> None:
        """Add the actions of a player to its replay.

        Args:
            player: The player.
            index: Index of the episode, the key of the shard.
            shard: States of the episode's blocks.
            proposal: The plans and states of the episode.
            reward: float32 [B, K], rewards of the player's actions.
            is_stored: bool [B, K], True for actions to store.
        """
        plan, blocks = proposal.plans[player.name], proposal.blocks
        values = player.value.predict(proposal.states, blocks)
        player.replay.add(index, shard, plan, values, reward, is_stored, token_counts(blocks, plan))

    def _reward(self, own: float, other: float) -> float:
        """Return the reward of a player with score `own` against one with score `other`."""
        if self.settings.reward == "sign":
            return sign_reward(own, other)
        return difference_reward(own, other, self.score_noise, self.settings.reward_clip)


def _rival(settings: ActorCriticSettings, ground: LearnerContext) -> Masking:
    """Return the masking of the random player. Raises ValueError if a rule is required but `ground.rule` is None."""
    if settings.baseline == "random":
        return RandomMasking()
    if ground.rule is None:
        raise ValueError("learner.baseline is 'rule', but the context has no rule. Set `LearnerContext.rule`.")
    return ground.rule(settings.baseline_idf_exponent)


def _shard_name(key: int) -> str:
    return f"episode-{key:05d}"


def _shard_key(name: str) -> int:
    return int(name.removeprefix("episode-"))
