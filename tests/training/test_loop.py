"""The inner loop is a function: equal plans, equal outcomes; other plans, other outcomes."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.trial import Condition, TrainingStats, TrialResult, TrialSpec
from nmg.base.types import Episode, MaskPlan, TokenBlocks
from nmg.data.episodes import split_contexts
from nmg.masking.rules import RandomMasking
from nmg.training.finetune import evaluate, finetune, task_model
from nmg.training.lm import ModelState, copy_state
from nmg.training.masks import FixedMasks
from nmg.training.probe import probe
from nmg.trials.episode import EpisodeRunner, PlayerJob
from nmg.trials.session import Session
from nmg.trials.trial import Encoded, Trial, mean_result, run_trials
from support.runs import Inputs, is_same


class EpisodeStart(NamedTuple):
    state: ModelState
    episode: Episode
    blocks: TokenBlocks


class Stage(NamedTuple):
    runner: EpisodeRunner
    start: EpisodeStart
    spec: TrialSpec

    def turn(self, plan: MaskPlan, *, keep: bool) -> PlayerJob:
        return PlayerJob(self.spec, self.start.episode, self.start.blocks, plan, keep)

    def play(self, plan: MaskPlan, start: ModelState | None = None) -> tuple[TrialResult, ModelState]:
        state = self.start.state if start is None else start
        outcome, adapted = self.runner.run(state, self.turn(plan, keep=True))
        assert adapted is not None
        return outcome, adapted

    def with_episode(self, episode: Episode) -> "Stage":
        return self._replace(start=self.start._replace(episode=episode))

    def with_replicates(self, number: int, **spec: Any) -> "Stage":
        return self._replace(runner=replace(self.runner, num_replicates=number), spec=replace(self.spec, **spec))

    def random_plan(self, seed: int) -> MaskPlan:
        return RandomMasking().plan(self.start.blocks, 0.3, np.random.default_rng(seed))


@pytest.fixture
def stage(inputs: Inputs) -> Stage:
    config = inputs.config(adapt={"epochs": 2})
    session = Session.prepare(config, Silent())
    assert session.lm.model.config.hidden_dropout_prob > 0
    split = split_contexts(session.data, config.meta, config.run.seed)
    train, validation = (Encoded.of(session.task, e) for e in (session.data.train, split.validation_examples))
    runner = EpisodeRunner(session.context.silent(), session.task, train, validation, config.reward.num_replicates)
    corpus = session.corpus([context.text for context in session.data.contexts])
    context_ids = split.train_context_ids[:8]
    block_ids = corpus.blocks_of(context_ids)
    row_ids = np.flatnonzero(np.isin([e.context_id for e in session.data.train], context_ids))  # an example is a row
    episode = Episode(3, block_ids, row_ids)
    start = EpisodeStart(copy_state(session.lm.model), episode, corpus.blocks(block_ids))
    return Stage(runner, start, TrialSpec("player", config.run.seed))


def facts(outcome: TrialResult) -> list[object]:
    """All that is computed, without the seconds."""
    trainings = [replace(stats, seconds=0.0) for stats in (outcome.adaptation, outcome.finetuning)]
    return [dict(outcome.scores), *trainings, outcome.error]


def test_the_same_plan_gives_the_same_outcome_to_the_bit(stage: Stage):
    plan = stage.random_plan(0)
    first, first_lm = stage.play(plan)
    other, other_lm = stage.play(stage.random_plan(1))
    torch.manual_seed(99)  # global generators do not matter
    again, again_lm = stage.play(replace(plan))
    assert facts(first) == facts(again)
    assert set(first.example_scores) == {"accuracy", "loss"}
    for name, scores in first.example_scores.items():
        assert np.array_equal(scores, again.example_scores[name])
    assert is_same(first_lm, again_lm)

    assert first.scores["loss"] != other.scores["loss"]
    assert first.adaptation.loss != other.adaptation.loss
    assert not is_same(first_lm, other_lm)
    assert first.adaptation.masked_tokens == other.adaptation.masked_tokens == 2 * int(plan.budget.sum())
    assert first.adaptation.tokens == other.adaptation.tokens == 2 * int(stage.start.blocks.is_token.sum())
    assert (first.adaptation.steps, first.finetuning.steps) == (4, 2)


def test_log_probabilities_do_not_reach_the_run_trials(stage: Stage):
    plan = stage.random_plan(0)
    learned = replace(plan, log_prob=torch.rand(plan.positions.shape))
    assert facts(stage.play(plan)[0]) == facts(stage.play(learned)[0])


def test_an_outcome_depends_on_the_episode_and_on_the_start(stage: Stage):
    plan = stage.random_plan(0)
    outcome, adapted = stage.play(plan)
    other_episode = stage.with_episode(replace(stage.start.episode, index=4))
    assert outcome.scores["loss"] != other_episode.play(plan)[0].scores["loss"]
    assert outcome.scores["loss"] != stage.play(plan, adapted)[0].scores["loss"]


def test_the_start_stays_as_it_is_and_the_model_is_a_working_copy(stage: Stage):
    before = {name: tensor.clone() for name, tensor in stage.start.state.items()}
    _, adapted = stage.play(stage.random_plan(0))
    kept = {name: tensor.clone() for name, tensor in adapted.items()}
    assert is_same(copy_state(stage.runner.context.model), adapted)
    stage.play(stage.random_plan(1))
    assert is_same(stage.start.state, before)
    assert is_same(adapted, kept)


def test_the_adapted_lm_comes_back_only_where_it_is_wanted(stage: Stage):
    assert stage.runner.run(stage.start.state, stage.turn(stage.random_plan(0), keep=False))[1] is None


def test_rows_are_those_of_the_episodes_examples(stage: Stage):
    episode = stage.start.episode
    few = stage.with_episode(replace(episode, row_ids=episode.row_ids[:3]))
    assert few.play(stage.random_plan(0))[0].finetuning.steps == 1


def trials(stage: Stage) -> list[Trial]:
    """On few examples and on all."""
    task, train, held_out = stage.runner.task, stage.runner.train, stage.runner.validation
    return [Trial(stage.spec, task, train, np.arange(n), held_out) for n in (5, len(train.features))]


def test_trials_share_one_adaptation_and_do_not_touch_each_other(stage: Stage):
    context, (state, _, blocks), randomness = stage.runner.context, stage.start, StreamName(7)
    masks = FixedMasks(blocks, stage.random_plan(0))
    both = list(run_trials(context, state, masks, trials(stage), randomness))
    adapted = copy_state(context.model)
    assert both[0].finetuning.steps < both[1].finetuning.steps
    for trial, outcome in zip(trials(stage), both, strict=True):
        (alone,) = run_trials(context, state, masks, [trial], randomness)
        assert facts(alone) == facts(outcome)
        assert is_same(copy_state(context.model), adapted)


def test_without_masks_the_lm_is_the_one_it_starts_from(stage: Stage):
    context, start = stage.runner.context, stage.start.state
    stage.play(stage.random_plan(0))
    (outcome,) = run_trials(context, start, None, trials(stage)[:1], StreamName(7))
    assert is_same(copy_state(context.model), start)
    assert outcome.adaptation == TrainingStats()


def test_steps_take_the_place_of_epochs(stage: Stage):
    masks = FixedMasks(stage.start.blocks, stage.random_plan(0))
    (trial, _) = trials(stage)
    trial = replace(trial, spec=replace(trial.spec, condition=Condition(adapt_steps=3), finetune_steps=1))
    (outcome,) = run_trials(stage.runner.context, stage.start.state, masks, [trial], StreamName(7))
    assert (outcome.adaptation.steps, outcome.finetuning.steps) == (3, 1)
    assert outcome.spec is trial.spec


def test_a_learning_rate_takes_the_place_of_that_of_the_settings(stage: Stage):
    context, masks = stage.runner.context, FixedMasks(stage.start.blocks, stage.random_plan(0))
    (trial, _), rate = trials(stage), 3 * stage.runner.context.adapt.learning_rate
    faster = replace(trial, spec=replace(trial.spec, learning_rate=rate))
    (outcome,) = run_trials(context, stage.start.state, masks, [faster], StreamName(7))
    as_set = replace(context, adapt=context.adapt.model_copy(update={"learning_rate": rate}))
    (expected,) = run_trials(as_set, stage.start.state, masks, [trial], StreamName(7))
    (other,) = run_trials(context, stage.start.state, masks, [trial], StreamName(7))
    assert facts(outcome) == facts(expected) != facts(other)


def test_a_training_that_diverges_is_an_error_of_its_trials(stage: Stage):
    masks = FixedMasks(stage.start.blocks, stage.random_plan(0))
    (few, many), context = trials(stage), stage.runner.context
    lost = [replace(one, spec=replace(one.spec, learning_rate=1e30)) for one in (few, many)]
    results = list(run_trials(context, stage.start.state, masks, lost, StreamName(7)))
    assert [(one.spec, one.scores) for one in results] == [(one.spec, {}) for one in lost]
    assert all("Lower adapt.learning_rate (1e+30)" in str(one.error) for one in results)
    bad = replace(context, finetune=context.finetune.model_copy(update={"learning_rate": 1e30}))
    probe = replace(few, spec=replace(few.spec, evaluation="linear-probe"))
    first, second = run_trials(bad, stage.start.state, masks, [few, probe], StreamName(7))
    assert "Lower finetune.learning_rate (1e+30)" in str(first.error)
    assert second.error is None, "the others go on"
    assert second.scores
    assert mean_result([second, first]) is first


def test_a_trial_by_the_probe_scores_what_the_probe_says(stage: Stage):
    """Of the adapted LM; the fine-tuning before it leaves no trace."""
    context, (state, _, blocks), randomness = stage.runner.context, stage.start, StreamName(7)
    masks, (few, _) = FixedMasks(blocks, stage.random_plan(0)), trials(stage)
    probed = replace(few, spec=replace(few.spec, evaluation="linear-probe"))
    _, outcome = run_trials(context, state, masks, [few, probed], randomness)
    features = few.held_out.features
    outputs = probe(context, few.task, few.train.features, few.rows, features)
    evaluation = few.task.evaluate(outputs, features, few.held_out.examples)
    assert outcome.scores == evaluation.scores
    assert is_same_scores(outcome.example_scores, evaluation.example_scores)
    assert outcome.finetuning.steps == 0
    assert outcome.adaptation.steps == 4
    seconds = outcome.phase_seconds
    assert min(seconds.values()) > 0
    rows = len(features) / len(few.rows)
    assert seconds["evaluate"] == pytest.approx(rows * seconds["finetune"]), "each row takes as long"

    (elsewhere,) = run_trials(context, state, masks, [probed], StreamName(8))
    assert elsewhere.scores["loss"] != outcome.scores["loss"], "the adaptation has randomness"
    without_masks = [next(run_trials(context, state, None, [probed], StreamName(n))) for n in (7, 8)]
    assert without_masks[0].scores == without_masks[1].scores, "the probe has none"


def is_same_scores(first: Any, second: Any) -> bool:
    return set(first) == set(second) and all(np.array_equal(first[name], second[name]) for name in first)


def test_an_episode_by_the_probe(stage: Stage):
    plan = stage.random_plan(0)
    tuned, tuned_lm = stage.play(plan)
    for times in (1, 3):
        probed, probed_lm = stage.with_replicates(times, evaluation="linear-probe").play(plan)
        assert is_same(tuned_lm, probed_lm)
        assert probed.adaptation.loss == tuned.adaptation.loss
        assert probed.finetuning.steps == 0
        assert set(probed.scores) == set(tuned.scores)
        assert probed.scores["loss"] != tuned.scores["loss"]


def test_fine_tunings_again_differ_in_their_randomness_alone(stage: Stage):
    """The first is the single one to the bit; the others have heads and orders of their own."""
    context, (state, _, blocks), randomness = stage.runner.context, stage.start, StreamName(7)
    masks, (trial, _) = FixedMasks(blocks, stage.random_plan(0)), trials(stage)
    (single,) = run_trials(context, state, masks, [trial], randomness)
    several = [replace(trial, spec=replace(trial.spec, replicate=again)) for again in range(3)]
    first, second, third = run_trials(context, state, masks, several, randomness)
    assert facts(first) == facts(single)
    assert is_same_scores(first.example_scores, single.example_scores)
    model = task_model(trial.task, context.model, randomness / "head")
    finetune(model, trial.train.features, trial.rows, context.finetune, context.runtime, randomness / "finetune")
    by_hand = evaluate(model, trial.task, trial.held_out.features, trial.held_out.examples, context.runtime)
    assert first.scores == by_hand.scores
    losses = {outcome.scores["loss"] for outcome in (first, second, third)}
    assert len(losses) == 3
    assert first.adaptation == second.adaptation == third.adaptation
    (alone,) = run_trials(context, state, masks, [several[2]], randomness)
    assert facts(alone) == facts(third)


def test_an_episode_of_several_fine_tunings_scores_their_mean(stage: Stage):
    plan, context = stage.random_plan(0), stage.runner.context
    single, adapted = stage.play(plan)
    once, _ = stage.with_replicates(1).play(plan)
    assert facts(once) == facts(single)
    assert is_same_scores(once.example_scores, single.example_scores)

    outcome, adapted_again = stage.with_replicates(3).play(plan)
    assert is_same(adapted, adapted_again)
    rows = stage.start.episode.row_ids
    held_out = stage.runner.validation
    specs = [replace(stage.spec, replicate=again) for again in range(3)]
    apart = [Trial(spec, stage.runner.task, stage.runner.train, rows, held_out) for spec in specs]
    randomness = StreamName(stage.spec.seed) / "episode" / stage.start.episode.index
    each = list(run_trials(context, stage.start.state, FixedMasks(stage.start.blocks, plan), apart, randomness))
    for name in single.scores:
        assert outcome.scores[name] == pytest.approx(np.mean([one.scores[name] for one in each]), rel=1e-12)
    for name, scores in outcome.example_scores.items():
        np.testing.assert_allclose(scores, np.mean([one.example_scores[name] for one in each], axis=0), rtol=1e-12)
        assert scores.mean() == pytest.approx(outcome.scores[name])
    assert outcome.finetuning.steps == 3 * single.finetuning.steps
    assert replace(outcome.adaptation, seconds=0.0) == replace(single.adaptation, seconds=0.0)


def test_seconds_of_several_trials_add_up_but_for_the_adaptation():
    adaptation = TrainingStats(8, 2.5, 10.0, 90, 40)

    def outcome(score: float, tuning: float) -> TrialResult:
        scores, each = {"loss": score}, {"loss": np.array([score, 0])}
        tuned, seconds = TrainingStats(3, 0.5, tuning), {"evaluate": 0.5, "held_out": 0.0}
        return TrialResult(TrialSpec("a", 0), scores, each, adaptation, tuned, seconds)

    mean = mean_result([outcome(1.0, 2.0), outcome(2.0, 3.0)])
    assert mean.scores == {"loss": 1.5}
    assert mean.example_scores["loss"].tolist() == [1.5, 0]
    assert mean.phase_seconds == {"adapt": 10.0, "finetune": 5.0, "evaluate": 1.0}
    assert mean.adaptation is adaptation
    assert mean.finetuning.steps == 6
    alone = outcome(1.0, 2.0)
    assert mean_result([alone]) is alone
