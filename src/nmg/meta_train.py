"""Meta-training: learn a masking policy from the score of the model that its masks give.

`MetaTraining.episode` is the outer loop on one page; how a learner explores, is rewarded and learns is its own.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nmg.data.corpus import Corpus
from nmg.data.episodes import sample_episode, split_contexts
from nmg.engines.base import Engine
from nmg.engines.registry import open_engine
from nmg.errors import Diverged
from nmg.inner.episode import EpisodeStart, Playground, Turn
from nmg.inner.lm import ModelState, copy_state
from nmg.inner.loop import Encoded
from nmg.learners.base import Ground as LearnerGround
from nmg.learners.base import Learner
from nmg.masking.idf import idf_rule
from nmg.seeding import StreamName
from nmg.types import MaskPlan, Outcome
from nmg.workbench import Workbench

RESET_EPISODES = 25
"""With `meta.reset` the LM is reset at the earliest after so many episodes."""


@dataclass(frozen=True)
class EpisodeRecord:
    """What one episode gives to the log: a line of metrics.jsonl."""

    episode: int
    metric: str
    """the score that players are compared by"""
    scores: Mapping[str, Mapping[str, float]]
    """player → metric → score"""
    lm_loss: Mapping[str, float]
    is_tie: bool
    """all players score alike"""
    learning: Mapping[str, Any]
    """what the learner says of the episode"""
    seconds: Mapping[str, float]
    diverged: Mapping[str, str] = field(default_factory=dict)
    """player whose training diverged → what happened; it has no scores"""

    def to_json(self) -> dict[str, Any]:
        facts = {name: value for name, value in vars(self).items() if name not in {"learning", "seconds", "diverged"}}
        diverged = {"diverged": self.diverged} if self.diverged else {}
        return {**facts, **diverged, **self.learning, "seconds": self.seconds}


class MetaTraining:
    """A meta-training run: the parts that stay (arena, split) and those that change (LM state, learner)."""

    def __init__(self, bench: Workbench) -> None:
        config = bench.config
        self.config = config
        self.data = bench.data
        self.lm = bench.lm
        self.randomness = StreamName(config.run.seed)
        self.split = split_contexts(
            bench.data, config.meta, config.run.seed, drop_duplicates=config.data.drop_duplicates
        )
        self.corpus: Corpus = bench.corpus([context.text for context in bench.data.contexts])
        self.arena = bench.arena.silent()
        self.metric = config.reward.metric or bench.task.default_metric
        self.pretrained: ModelState = copy_state(bench.lm.model)
        self.lm_state = self.pretrained
        self.learner = self._new_learner(bench)
        self.playground = self._new_playground(bench)
        self.engine = self._new_engine(bench)
        self.next_episode = 0
        self.steps: int | None = None
        """of each training of an inner loop, at most: only `runs.estimate` ends them early"""
        self.diverged_in_a_row = 0
        """episodes, the last ones, in which a player's training diverged"""

    @property
    def is_finished(self) -> bool:
        return self.next_episode >= self.config.meta.episodes or self.learner.is_finished

    @property
    def planned_episodes(self) -> int:
        return min(self.config.meta.episodes, self.learner.most_episodes or self.config.meta.episodes)

    def episode(self) -> EpisodeRecord:
        """Play one episode, learn from it, and return its record."""
        index, meta, seconds = self.next_episode, self.config.meta, _Stopwatch()

        # 1. Sample contexts and task examples.
        self._reset_lm_if_due(index)
        episode = sample_episode(index, self.split, self.data, self.corpus, meta, self.config.run.seed)
        blocks = self.corpus.blocks(episode.block_ids)

        # 2. The learner proposes masks for each player, by the LM that the episode starts from.
        self.arena.model.load_state_dict(self.lm_state)
        plans = self.learner.propose(episode, blocks, self.arena.reader)
        seconds.lap("masks")

        # 3. Inner loops: adapt, fine-tune, score. With continual adaptation the leader's LM starts the next episode.
        outcomes, diverged, leaders_lm = self._play(EpisodeStart(self.lm_state, episode, blocks, self.steps), plans)
        if meta.continual and leaders_lm is not None:
            self.lm_state = leaders_lm
        seconds.lap("inner loops")

        # 4. Learn from what the players scored.
        learning = self.learner.learn(episode, outcomes)
        seconds.lap("update")

        self.next_episode += 1
        self.diverged_in_a_row = self.diverged_in_a_row + 1 if diverged else 0
        return EpisodeRecord(
            episode=index,
            metric=self.metric,
            scores={player: dict(outcome.scores) for player, outcome in outcomes.items()},
            lm_loss={player: outcome.lm_loss for player, outcome in outcomes.items()},
            is_tie=not diverged and len({outcome.score(self.metric) for outcome in outcomes.values()}) == 1,
            learning=learning,
            seconds=seconds.laps | _inner_seconds(outcomes, seconds.laps["inner loops"]),
            diverged=diverged,
        )

    def _play(
        self, start: EpisodeStart, plans: Mapping[str, MaskPlan]
    ) -> tuple[dict[str, Outcome], dict[str, str], ModelState | None]:
        """The outcome of each player, what happened to those whose training diverged, and the leader's adapted LM."""
        turns = [Turn(plan, name == self.learner.leader) for name, plan in plans.items()]
        results = dict(self.engine.play(start, turns))
        ended = {name: results[number][0] for number, name in enumerate(plans)}
        outcomes = {name: one for name, one in ended.items() if isinstance(one, Outcome)}
        diverged = {name: str(one) for name, one in ended.items() if isinstance(one, Diverged)}
        kept = next((state for _, state in results.values() if state is not None), None)
        device = self.arena.runtime.device
        leaders_lm = None if kept is None else {name: tensor.to(device) for name, tensor in kept.items()}
        return outcomes, diverged, leaders_lm

    def _reset_lm_if_due(self, index: int) -> None:
        period = max(len(self.data.contexts) // self.config.meta.contexts, RESET_EPISODES)
        if self.config.meta.reset and index % period == 0:
            self.lm_state = self.pretrained

    def _new_learner(self, bench: Workbench) -> Learner:
        config = self.config
        seen = set(self.split.train_context_ids.tolist())
        labelled = [example for example in self.data.train if example.context_id in seen]
        of_policy = bench.policy_ground(self.corpus, labelled)
        return config.learner.build(
            LearnerGround(
                new_policy=lambda: config.policy.build(of_policy),
                rate=config.masking.rate,
                score=lambda outcome: outcome.score(self.metric),
                randomness=self.randomness,
                device=self.arena.runtime.device,
                rule=lambda sharpness: idf_rule(self.corpus, sharpness),
            )
        )

    def _new_playground(self, bench: Workbench) -> Playground:
        return Playground(
            arena=self.arena,
            task=bench.task,
            train=Encoded.of(bench.task, bench.data.train),
            validation=Encoded.of(bench.task, self.split.validation_examples),
            seed=self.config.run.seed,
            reward=self.config.reward,
        )

    def _new_engine(self, bench: Workbench) -> Engine:
        runtime, n_parameters = self.config.runtime, bench.lm.model.num_parameters()
        opener = self.playground.opener(runtime)
        return open_engine(runtime, self.playground, opener, self.learner.players, n_parameters)


def _inner_seconds(outcomes: Mapping[str, Outcome], whole: float) -> dict[str, float]:
    """Seconds of each inner phase over all players; where these play at once, its share of the seconds of the whole."""
    phases: dict[str, float] = {}
    for outcome in outcomes.values():
        for phase, value in outcome.seconds.items():
            phases[phase] = phases.get(phase, 0.0) + value
    share = min(1.0, whole / max(sum(phases.values()), 1e-9))
    return {phase: value * share for phase, value in phases.items()}


class _Stopwatch:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.laps[phase], self._last = now - self._last, now
