"""Meta-training: learns a masking policy from the task scores of models that were adapted with its masks.

`MetaTraining.round` is the outer loop. Each learner defines how it explores, computes rewards and updates its policy.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nmg.base.seeding import StreamName
from nmg.base.trial import TrialResult, TrialSpec
from nmg.base.trial_recipe import TrialRecipe
from nmg.base.types import Episode, MaskPlan, TokenBlocks
from nmg.data.corpus import Corpus
from nmg.data.episodes import sample_episode
from nmg.executors.base import Executor
from nmg.executors.registry import open_executor
from nmg.learners.base import Learner, LearnerContext
from nmg.learners.registry import build_learner
from nmg.masking.idf import idf_rule
from nmg.meta_training.credit import RunCredit
from nmg.policies.registry import build_policy
from nmg.training.batches import batches_per_epoch
from nmg.training.lm import ModelState, copy_state, restore_state
from nmg.trials.episode import EpisodeRunner, PlayerJob
from nmg.trials.session import Session
from nmg.trials.trial import Encoded

RESET_EPISODES = 25
"""Minimum number of episodes between resets of the LM with `meta.reset`."""


@dataclass(frozen=True)
class EpisodeRecord:
    """The log record of one episode: one line of metrics.jsonl."""

    episode: int
    """Episode number, from 1."""
    metric: str
    """Name of the metric that players are compared by."""
    scores: Mapping[str, Mapping[str, float]]
    """Player → metric → score."""
    lm_loss: Mapping[str, float | None]
    """Player → mean masked-LM loss of its adaptation, in nats; None if the adaptation had no steps."""
    is_tie: bool
    """Whether all players have the same score."""
    learning: Mapping[str, Any]
    """Values that the learner reports for the episode."""
    seconds: Mapping[str, float]
    """Phase → duration in seconds."""
    diverged: Mapping[str, str] = field(default_factory=dict)
    """Player whose training diverged → what went wrong. Such a player has no scores."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object; the learner's values become top-level fields."""
        facts = {name: value for name, value in vars(self).items() if name not in {"learning", "seconds", "diverged"}}
        diverged = {"diverged": self.diverged} if self.diverged else {}
        return {**facts, **diverged, **self.learning, "seconds": self.seconds}


@dataclass(frozen=True)
class _Proposed:
    """An episode with its blocks and each player's mask plan."""

    episode: Episode
    blocks: TokenBlocks
    plans: Mapping[str, MaskPlan | None]
    recipes: Mapping[str, TrialRecipe]
    """Player → recipe; players without an entry have the configured one."""


class MetaTraining:
    """A meta-training run: its fixed parts (training context, data split) and its state (LM weights, learner)."""

    def __init__(self, session: Session) -> None:
        """Prepare a run from a session whose data are read and whose model is loaded."""
        config = session.config
        self.config = config
        self.data = session.data
        self.lm = session.lm
        self.randomness = StreamName(config.run.seed)
        self.split = session.split()
        self.corpus: Corpus = session.corpus([context.text for context in session.data.contexts])
        self.context = session.context.silent()
        self.metric = config.reward.metric or session.task.default_metric
        self.pretrained: ModelState = copy_state(session.lm.model)
        self.lm_state = self.pretrained
        self.runner = self._new_playground(session)
        self.credit = RunCredit(session, self.corpus, self.runner, self.pretrained, self.sample)
        self.learner = self._new_learner(session)
        self.engine = self._new_engine(session)
        self.next_episode = 0
        self.trial = TrialSpec("", config.run.seed, evaluation=config.reward.evaluation)
        """The trial of each player except for its name. Only `meta_training.estimate` limits its steps."""
        self.diverged_in_a_row = 0
        """Number of most recent consecutive episodes in which the training of a player diverged."""

    @property
    def is_finished(self) -> bool:
        """True after the last episode of `meta.episodes`, or if the learner stops early."""
        return self.next_episode >= self.config.meta.episodes or self.learner.is_finished

    @property
    def planned_episodes(self) -> int:
        """Maximum number of episodes of the run; for a finished run, the actual number."""
        if self.is_finished:
            return self.next_episode
        return min(self.config.meta.episodes, self.learner.capabilities.max_episodes or self.config.meta.episodes)

    def episode(self) -> EpisodeRecord:
        """Run one episode, learn from it and return its record."""
        return self.round(at_once=1)[0]

    def round(self, at_once: Literal["auto"] | int | None = None) -> list[EpisodeRecord]:
        """Run the next episodes in parallel, then learn from each in order, and return their records.

        `at_once` is the number of parallel episodes; None means `meta.parallel_episodes`.
        """
        asked, seconds = at_once or self.config.meta.parallel_episodes, _Stopwatch()

        # 1. Sample contexts and task examples. The learner proposes masks for each player, based on the initial LM.
        self._reset_lm_if_due(self.next_episode)
        restore_state(self.context.model, self.lm_state)
        proposed: list[_Proposed] = []
        while self._has_room(proposed, asked):
            proposed.append(self._propose(self.next_episode + len(proposed)))
        seconds.lap("masks")

        # 2. Inner loops: adapt, fine-tune, score. Continual adaptation keeps the leader's LM for the next episode.
        played = self._play(proposed)
        seconds.lap("inner loops")

        # 3. Learn from the scores of the players.
        records = []
        for lag, (one, results) in enumerate(zip(proposed, played, strict=True)):
            learning = self.learner.learn(one.episode, _sound(results))
            if lag and self.learner.capabilities.off_policy:
                learning = {**learning, "policy_lag": lag}
            seconds.lap("update")
            laps = {name: seconds.laps[name] / len(proposed) for name in ("masks", "inner loops")}
            records.append(self._record(one.episode, results, learning, {**laps, "update": seconds.laps["update"]}))
        return records

    def jobs_at_once(self, asked: Literal["auto"] | int) -> int:
        """Return the maximum number of inner loops in a round; an executor may run fewer of them in parallel.

        `asked` is the number of episodes per round, as in `meta.parallel_episodes`.
        """
        players, most = self.learner.capabilities.max_players, self._most_together(asked)
        if asked == "auto":
            return max(players, self.context.runtime.threads) if most > 1 else players
        return players * most

    def _most_together(self, asked: Literal["auto"] | int) -> int:
        """Return the maximum number of episodes per round.

        An explicit number is returned unchanged if the learner is off-policy. Otherwise the number is limited so that
        parallel execution does not change results.
        """
        able = self.learner.capabilities
        if asked == "auto":
            return able.max_independent_episodes
        return asked if able.off_policy else min(asked, able.max_independent_episodes)

    def _has_room(self, proposed: Sequence[_Proposed], asked: Literal["auto"] | int) -> bool:
        """Return whether the round gets another episode, after the `proposed` ones.

        With "auto", it does only if results stay the same and workers are idle. A serial executor has no idle workers,
        so each episode is learned from, logged and saved as soon as it ends.
        """
        n = len(proposed)
        if n == 0 or self.next_episode + n >= self.config.meta.episodes or n >= self._most_together(asked):
            return n == 0
        players = [len(one.plans) for one in proposed]
        return asked != "auto" or sum(players) + players[-1] <= self.engine.processes

    def sample(self, index: int) -> Episode:
        """Return episode `index`, with the blocks and rows that all of its players share."""
        meta, seed, rows = self.config.meta, self.config.run.seed, self.runner.train.features.example_index
        return sample_episode(index, self.split, self.data, self.corpus, meta, seed, rows)

    def _propose(self, index: int) -> _Proposed:
        """Sample an episode and let the learner propose its mask plans."""
        episode = self.sample(index)
        blocks = self.corpus.blocks(episode.block_ids)
        plans = self.learner.propose(episode, blocks, self.context.reader)
        return _Proposed(episode, blocks, plans, self.learner.recipes(episode))

    def _play(self, proposed: Sequence[_Proposed]) -> list[dict[str, TrialResult]]:
        """Run the inner loops and return player → result per episode. The run's LM becomes the leader's adapted LM."""
        turns = {
            (number, name): PlayerJob(self._spec(name, one), one.episode, one.blocks, plan, self._is_kept(name))
            for number, one in enumerate(proposed)
            for name, plan in one.plans.items()
        }
        played: list[dict[str, TrialResult]] = [{} for _ in proposed]
        results = dict(self.engine.map_unordered(self.lm_state, list(turns.values())))
        for turn, (number, name) in enumerate(turns):
            played[number][name], adapted = results[turn]
            if adapted is not None:
                device = self.context.runtime.device
                self.lm_state = {of: tensor.to(device) for of, tensor in adapted.items()}
        return played

    def _spec(self, player: str, proposed: _Proposed) -> TrialSpec:
        """Return the trial of a player, under its recipe."""
        spec = replace(self.trial, masking=player)
        if player not in proposed.recipes:
            return spec
        steps, adapting = spec.condition.adapt_steps, self.config.adapt
        if steps is None:
            steps = adapting.epochs * batches_per_epoch(adapting, self.corpus.lengths[proposed.episode.block_ids])
        return proposed.recipes[player].applied_to(spec, steps)

    def _is_kept(self, player: str) -> bool:
        """Return whether the next episode starts from the LM that this player adapts."""
        return self.config.meta.continual and player == self.learner.capabilities.leader

    def _record(
        self,
        episode: Episode,
        results: Mapping[str, TrialResult],
        learning: Mapping[str, Any],
        laps: Mapping[str, float],
    ) -> EpisodeRecord:
        """Count the episode as finished and return its log record.

        Args:
            episode: The episode.
            results: Player → result.
            learning: Values that the learner reports for the episode.
            laps: Phase → duration in seconds.

        Returns:
            The record.
        """
        self.next_episode += 1
        diverged = {player: result.error for player, result in results.items() if result.error is not None}
        self.diverged_in_a_row = self.diverged_in_a_row + 1 if diverged else 0
        outcomes = _sound(results)
        return EpisodeRecord(
            episode=episode.index + 1,
            metric=self.metric,
            scores={player: dict(outcome.scores) for player, outcome in outcomes.items()},
            lm_loss={player: outcome.adaptation.loss for player, outcome in outcomes.items()},
            is_tie=not diverged and len({outcome.score(self.metric) for outcome in outcomes.values()}) == 1,
            learning=learning,
            seconds={**laps, **_inner_seconds(outcomes, laps["inner loops"])},
            diverged=diverged,
        )

    def _reset_lm_if_due(self, index: int) -> None:
        """Restore the pre-trained LM at the start of a reset period."""
        period = max(len(self.data.contexts) // self.config.meta.contexts, RESET_EPISODES)
        if self.config.meta.reset and index % period == 0:
            self.lm_state = self.pretrained

    def _new_learner(self, session: Session) -> Learner:
        """Build the learner of the settings."""
        config = self.config
        seen = set(self.split.train_context_ids.tolist())
        labelled = [example for example in self.data.train if example.context_id in seen]
        of_policy = self.credit.given_to(session.policy_ground(self.corpus, labelled))
        return build_learner(
            config.learner,
            LearnerContext(
                new_policy=lambda: build_policy(config.policy, of_policy),
                rate=config.masking.rate,
                score=lambda outcome: outcome.score(self.metric),
                randomness=self.randomness,
                device=self.context.runtime.device,
                rule=lambda exponent: idf_rule(self.corpus, exponent),
                recipe=TrialRecipe(
                    learning_rate=config.adapt.learning_rate,
                    steps_factor=1.0,
                    rate=config.masking.rate,
                    unit=config.policy.unit,
                ),
            ),
        )

    def _new_playground(self, session: Session) -> EpisodeRunner:
        """Build the runner of inner loops."""
        return EpisodeRunner(
            context=self.context,
            task=session.task,
            train=Encoded.of(session.task, session.data.train),
            validation=Encoded.of(session.task, self.split.validation_examples),
            num_replicates=self.config.reward.num_replicates,
        )

    def _new_engine(self, session: Session) -> Executor:
        """Open the executor of inner loops."""
        runtime, n_parameters = self.config.runtime, session.lm.model.num_parameters()
        at_once = self.jobs_at_once(self.config.meta.parallel_episodes)
        return open_executor(runtime, self.runner, self.runner.factory(runtime), at_once, n_parameters)


def _sound(results: Mapping[str, TrialResult]) -> dict[str, TrialResult]:
    """Return the results of the players whose training did not diverge."""
    return {player: result for player, result in results.items() if result.error is None}


def _inner_seconds(outcomes: Mapping[str, TrialResult], whole: float) -> dict[str, float]:
    """Return phase → seconds, summed over all players and scaled down to `whole` seconds if players ran in parallel."""
    phases: dict[str, float] = {}
    for outcome in outcomes.values():
        for phase, value in outcome.phase_seconds.items():
            phases[phase] = phases.get(phase, 0.0) + value
    share = min(1.0, whole / max(sum(phases.values()), 1e-9))
    return {phase: value * share for phase, value in phases.items()}


class _Stopwatch:
    """Measures the duration of consecutive phases."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Store the seconds since the last lap under the name of the phase."""
        now = time.perf_counter()
        self.laps[phase], self._last = now - self._last, now
