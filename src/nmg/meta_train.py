"""Meta-training: learn a masking policy from the score of the model that its masks give.

`MetaTraining.episode` is the algorithm on one page; docs/paper_map.md names the source of each step.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from nmg.data.corpus import Corpus
from nmg.data.episodes import MetaSplit, sample_episode, split_contexts
from nmg.inner.adapt import state_encoder
from nmg.inner.lm import ModelState, copy_state
from nmg.inner.players import InnerLoops
from nmg.inner.rollout import Arena, Encoded
from nmg.masking.corrupt import Vocabulary
from nmg.masking.neural import NeuralMasking
from nmg.masking.rules import RandomMasking
from nmg.player import Player
from nmg.rl.replay import StateShard, token_counts
from nmg.rl.reward import ScoreNoise, credit, credit_by_case, difference_reward, sign_reward
from nmg.rl.update import UpdateStatistics
from nmg.seeding import StreamName
from nmg.setup import Workbench, build_corpus
from nmg.types import Episode, MaskPlan, Outcome, TokenBlocks

RESET_EPISODES = 25
"""With `meta.reset` the LM is reset at the earliest after so many episodes."""


@dataclass(frozen=True)
class EpisodeRecord:
    """What one episode gives to the log: a line of metrics.jsonl."""

    episode: int
    metric: str
    """the score that rewards compare"""
    scores: Mapping[str, Mapping[str, float]]
    """player → metric → score; the opponent is missing while it is the random player"""
    lm_loss: Mapping[str, float]
    reward_opponent: float
    reward_random: float
    mean_reward: float
    """over the learner's stored actions"""
    stored_share: float
    """stored actions among the learner's actions; the rest was chosen by every player and tells nothing"""
    credit: Mapping[str, Mapping[str, float]]
    """case → number of the learner's actions and their mean reward (`rl.reward.credit_by_case`)"""
    is_tie: bool
    transitions: int
    states: int
    replay_age: float | None
    """for how many episodes the learner's replay has held its transitions, their mean; None while it is empty"""
    learner_update: Mapping[str, float] | None
    opponent_update: Mapping[str, float] | None
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


class MetaTraining:
    """A meta-training run: the parts that stay (arena, split) and those that learn (LM state, learner, opponent)."""

    def __init__(self, bench: Workbench) -> None:
        config = bench.config
        self.config = config
        self.randomness = StreamName(config.run.seed)
        self.split = split_contexts(bench.data, config.meta, config.run.seed)
        self.data = bench.data
        self.lm = bench.lm
        self.corpus: Corpus = build_corpus(config, bench.lm, [context.text for context in bench.data.contexts])
        self.arena = _arena(bench, self.split)
        self.inner_loops = InnerLoops(self.arena)
        self.pretrained: ModelState = copy_state(bench.lm.model)
        self.lm_state = self.pretrained
        self.learner = Player.create("learner", bench.lm, config, bench.runtime)
        self.opponent = Player.create("opponent", bench.lm, config, bench.runtime)
        self.metric = config.reward.metric or bench.task.default_metric
        self.score_noise = ScoreNoise()
        self.next_episode = 0

    def episode(self) -> EpisodeRecord:
        """Play one episode, learn from it, and return its record."""
        index, meta, seconds = self.next_episode, self.config.meta, _Stopwatch()

        # 1. Sample contexts and task examples; encode the contexts once, for every player.
        self._reset_lm_if_due(index)
        episode = sample_episode(index, self.split, self.data, self.corpus, meta, self.config.run.seed)
        blocks = self.corpus.blocks(episode.block_ids)
        states = self._encode(episode)
        seconds.lap("encode")

        # 2. Each player plans its masks, exploring under noise of its own.
        opponent_plays = self._opponent_plays()
        random_plan = RandomMasking().plan(blocks, self.config.masking.rate, self._noise(index, "random"))
        learner_plan = self._plan(self.learner, blocks, states, index, greedy=False)
        plans = {"learner": learner_plan, "random": random_plan}
        opponent_plan = random_plan
        if opponent_plays:
            opponent_plan = self._plan(self.opponent, blocks, states, index, greedy=meta.self_play == "frozen")
            plans["opponent"] = opponent_plan
        seconds.lap("masks")

        # 3. Inner loops: adapt, fine-tune, score. With continual adaptation the learner's LM starts the next episode.
        outcomes, learner_lm = self.inner_loops.play(self.lm_state, episode, blocks, plans, keep="learner")
        learner_outcome, random_outcome = outcomes["learner"], outcomes["random"]
        opponent_outcome = outcomes.get("opponent", random_outcome)
        if meta.continual:
            self.lm_state = learner_lm
        seconds.lap("inner loops")

        # 4. Rewards, and credit for each action.
        self.score_noise.observe(self._score(learner_outcome) - self._score(random_outcome))
        if opponent_plays:
            self.score_noise.observe(self._score(learner_outcome) - self._score(opponent_outcome))
        against_opponent = self._reward(learner_outcome, opponent_outcome)
        against_random = self._reward(learner_outcome, random_outcome)
        n_tokens = blocks.input_ids.shape[1]
        reward, is_stored = credit(learner_plan, opponent_plan, random_plan, against_opponent, against_random, n_tokens)

        # 5. Remember, with the states stored once for both replays.
        shard = StateShard.pack(states, blocks)
        self.learner.replay.add(index, shard, learner_plan, reward, is_stored, token_counts(blocks, learner_plan))
        if opponent_plays and meta.self_play == "learning":
            swapped = credit(
                opponent_plan,
                learner_plan,
                random_plan,
                self._reward(opponent_outcome, learner_outcome),
                self._reward(opponent_outcome, random_outcome),
                n_tokens,
            )
            self.opponent.replay.add(index, shard, opponent_plan, *swapped, token_counts(blocks, opponent_plan))

        # 6. Learn from the replay.
        learner_update = self._update(self.learner, index)
        opponent_update = self._update(self.opponent, index) if meta.self_play == "learning" else None
        if meta.self_play == "frozen" and against_opponent > 0:
            self.opponent.policy.load_state_dict(self.learner.policy.state_dict())
        seconds.lap("update")

        self.next_episode += 1
        return EpisodeRecord(
            episode=index,
            metric=self.metric,
            scores={player: dict(outcome.scores) for player, outcome in outcomes.items()},
            lm_loss={player: outcome.lm_loss for player, outcome in outcomes.items()},
            reward_opponent=against_opponent,
            reward_random=against_random,
            mean_reward=float(reward[is_stored].mean()) if bool(is_stored.any()) else 0.0,
            stored_share=float(is_stored.sum()) / max(int(learner_plan.budget.sum()), 1),
            credit=credit_by_case(learner_plan, opponent_plan, random_plan, reward, n_tokens),
            is_tie=against_opponent == 0 and against_random == 0,
            transitions=len(self.learner.replay),
            states=self.learner.replay.n_states,
            replay_age=self.learner.replay.mean_age(index) if len(self.learner.replay) else None,
            learner_update=learner_update.to_dict() if learner_update else None,
            opponent_update=opponent_update.to_dict() if opponent_update else None,
            seconds=seconds.laps | _inner_seconds(outcomes, seconds.laps["inner loops"]),
        )

    def _opponent_plays(self) -> bool:
        """Whether the opponent is a policy; until the learner's replay has filled it is the random player."""
        return self.config.meta.self_play != "random" and len(self.learner.replay) > self.config.replay.start

    def _noise(self, index: int, player: str) -> np.random.Generator:
        """The noise of a player's actions, the one stream that players do not share.

        Under common noise a new policy, which is nearly uniform, would choose the random player's very masks, and all
        of its actions would be dropped for telling nothing.
        """
        return (self.randomness / "episode" / index / "actions" / player).generator()

    def _plan(self, player: Player, blocks: TokenBlocks, states: Tensor, index: int, *, greedy: bool) -> MaskPlan:
        masking = NeuralMasking(player.policy, greedy=greedy)
        return masking.plan_from_states(blocks, states, self.config.masking.rate, self._noise(index, player.name))

    def _reset_lm_if_due(self, index: int) -> None:
        period = max(len(self.data.contexts) // self.config.meta.contexts, RESET_EPISODES)
        if self.config.meta.reset and index % period == 0:
            self.lm_state = self.pretrained

    def _encode(self, episode: Episode) -> Tensor:
        """States [B, T, H] of the LM this episode starts from (the pre-trained one unless adaptation is continual)."""
        self.arena.model.load_state_dict(self.lm_state)
        encode = state_encoder(self.arena.model, self.arena.runtime)
        size = self.arena.runtime.evaluation_batch_size
        longest = int(self.corpus.lengths[episode.block_ids].max())
        states: Tensor | None = None
        for first in range(0, len(episode.block_ids), size):
            batch = encode(self.corpus.blocks(episode.block_ids[first : first + size]))
            if states is None:
                states = batch.new_zeros(len(episode.block_ids), longest, batch.shape[2])
            states[first : first + len(batch), : batch.shape[1]] = batch
        assert states is not None, "an episode has at least one block"
        return states

    def _score(self, outcome: Outcome) -> float:
        """The score that rewards compare, more being better."""
        score = outcome.scores[self.metric]
        return -score if self.metric == "loss" else score

    def _reward(self, own: Outcome, other: Outcome) -> float:
        settings = self.config.reward
        if settings.kind == "sign":
            return sign_reward(self._score(own), self._score(other))
        return difference_reward(self._score(own), self._score(other), self.score_noise, settings.clip)

    def _update(self, player: Player, index: int) -> UpdateStatistics | None:
        if len(player.replay) < max(self.config.replay.start, 1):
            return None
        randomness = self.randomness / "episode" / index / "update" / player.name
        return player.learn(self.config, index, randomness.generator())


def _arena(bench: Workbench, split: MetaSplit) -> Arena:
    validation = split.validation_examples
    return Arena(
        model=bench.lm.model,
        task=bench.task,
        train=Encoded(bench.data.train, bench.task.encode(bench.data.train)),
        validation=Encoded(validation, bench.task.encode(validation)),
        vocabulary=Vocabulary.from_tokenizer(bench.lm.tokenizer),
        config=bench.config,
        runtime=bench.runtime,
    )


def _inner_seconds(outcomes: Mapping[str, Outcome], whole: float) -> dict[str, float]:
    """Seconds of each inner phase over all players; where these play at once, its share of the seconds of the whole."""
    phases: dict[str, float] = {}
    for outcome in outcomes.values():
        for phase, value in outcome.seconds.items():
            phases[phase] = phases.get(phase, 0.0) + value
    share = min(1.0, whole / sum(phases.values()))
    return {phase: value * share for phase, value in phases.items()}


class _Stopwatch:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.laps[phase], self._last = now - self._last, now
