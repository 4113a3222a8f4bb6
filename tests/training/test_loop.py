"""The inner loop is a function: equal plans, equal outcomes; other plans, other outcomes."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.settings import RewardSettings
from nmg.base.types import Episode, MaskPlan, Outcome, TokenBlocks
from nmg.data.episodes import split_contexts
from nmg.masking.rules import RandomMasking
from nmg.training.finetune import evaluate, finetune, task_model
from nmg.training.lm import ModelState, copy_state
from nmg.training.masks import FixedMasks
from nmg.training.probe import probe
from nmg.trials.episode import EpisodeRunner, InitialState, PlayerJob
from nmg.trials.session import Session
from nmg.trials.trial import Encoded, Trial, inner_loop, mean_outcome
from support.runs import Inputs, is_same


class EpisodeStart(NamedTuple):
    state: ModelState
    episode: Episode
    blocks: TokenBlocks


class Stage(NamedTuple):
    runner: EpisodeRunner
    start: EpisodeStart

    def turn(self, plan: MaskPlan, *, keep: bool) -> PlayerJob:
        return PlayerJob(self.start.episode, self.start.blocks, plan, keep)

    def play(self, plan: MaskPlan, start: ModelState | None = None) -> tuple[Outcome, ModelState]:
        state = self.start.state if start is None else start
        outcome, adapted = self.runner.run(InitialState(state), self.turn(plan, keep=True))
        assert adapted is not None
        return outcome, adapted

    def with_episode(self, episode: Episode) -> "Stage":
        return self._replace(start=self.start._replace(episode=episode))

    def with_reward(self, **settings: Any) -> "Stage":
        return self._replace(runner=replace(self.runner, reward=RewardSettings(**settings)))

    def random_plan(self, seed: int) -> MaskPlan:
        return RandomMasking().plan(self.start.blocks, 0.3, np.random.default_rng(seed))


@pytest.fixture
def stage(inputs: Inputs) -> Stage:
    config = inputs.config(adapt={"epochs": 2})
    session = Session.prepare(config, Silent())
    assert session.lm.model.config.hidden_dropout_prob > 0
    split = split_contexts(session.data, config.meta, config.run.seed)
    train, validation = (Encoded.of(session.task, e) for e in (session.data.train, split.validation_examples))
    runner = EpisodeRunner(session.context.silent(), session.task, train, validation, config.run.seed, config.reward)
    corpus = session.corpus([context.text for context in session.data.contexts])
    context_ids = split.train_context_ids[:8]
    block_ids = corpus.blocks_of(context_ids)
    row_ids = np.flatnonzero(np.isin([e.context_id for e in session.data.train], context_ids))  # an example is a row
    episode = Episode(3, block_ids, row_ids)
    return Stage(runner, EpisodeStart(copy_state(session.lm.model), episode, corpus.blocks(block_ids)))


def facts(outcome: Outcome) -> dict[str, object]:
    """All but the seconds."""
    return {name: value for name, value in vars(outcome).items() if name not in {"seconds", "example_scores"}}


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
    assert first.lm_loss != other.lm_loss
    assert not is_same(first_lm, other_lm)
    assert first.masked_tokens == other.masked_tokens == 2 * int(plan.budget.sum())
    assert first.tokens == other.tokens == 2 * int(stage.start.blocks.is_token.sum())
    assert (first.lm_steps, first.task_steps) == (4, 2)


def test_log_probabilities_do_not_reach_the_inner_loop(stage: Stage):
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
    assert stage.runner.run(InitialState(stage.start.state), stage.turn(stage.random_plan(0), keep=False))[1] is None


def test_rows_are_those_of_the_episodes_examples(stage: Stage):
    episode = stage.start.episode
    few = stage.with_episode(replace(episode, row_ids=episode.row_ids[:3]))
    assert few.play(stage.random_plan(0))[0].task_steps == 1


def trials(stage: Stage) -> list[Trial]:
    """On few examples and on all."""
    task, train, held_out = stage.runner.task, stage.runner.train, stage.runner.validation
    return [Trial(task, train, np.arange(n), held_out) for n in (5, len(train.features))]


def test_trials_share_one_adaptation_and_do_not_touch_each_other(stage: Stage):
    context, (state, _, blocks), randomness = stage.runner.context, stage.start, StreamName(7)
    masks = FixedMasks(blocks, stage.random_plan(0))
    both = list(inner_loop(context, state, masks, trials(stage), randomness))
    adapted = copy_state(context.model)
    assert both[0].task_steps < both[1].task_steps
    for trial, outcome in zip(trials(stage), both, strict=True):
        (alone,) = inner_loop(context, state, masks, [trial], randomness)
        assert facts(alone) == facts(outcome)
        assert is_same(copy_state(context.model), adapted)


def test_without_masks_the_lm_is_the_one_it_starts_from(stage: Stage):
    context, start = stage.runner.context, stage.start.state
    stage.play(stage.random_plan(0))
    (outcome,) = inner_loop(context, start, None, trials(stage)[:1], StreamName(7))
    assert is_same(copy_state(context.model), start)
    assert np.isnan(outcome.lm_loss)
    assert (outcome.lm_steps, outcome.masked_tokens, outcome.tokens, outcome.seconds["adapt"]) == (0, 0, 0, 0.0)


def test_steps_take_the_place_of_epochs(stage: Stage):
    masks = FixedMasks(stage.start.blocks, stage.random_plan(0))
    outcomes = inner_loop(stage.runner.context, stage.start.state, masks, trials(stage)[:1], StreamName(7), steps=3)
    assert [outcome.lm_steps for outcome in outcomes] == [3]


def test_a_trial_by_the_probe_scores_what_the_probe_says(stage: Stage):
    """Of the adapted LM; the fine-tuning before it leaves no trace."""
    context, (state, _, blocks), randomness = stage.runner.context, stage.start, StreamName(7)
    masks, (few, _) = FixedMasks(blocks, stage.random_plan(0)), trials(stage)
    probed = replace(few, evaluation="linear-probe")
    _, outcome = inner_loop(context, state, masks, [few, probed], randomness)
    features = few.held_out.features
    outputs = probe(context, few.task, few.train.features, few.rows, features)
    evaluation = few.task.evaluate(outputs, features, few.held_out.examples)
    assert outcome.scores == evaluation.scores
    assert is_same_scores(outcome.example_scores, evaluation.example_scores)
    assert outcome.task_steps == 0
    assert outcome.lm_steps == 4
    assert set(outcome.seconds) == {"adapt", "finetune", "evaluate"}
    assert outcome.seconds["finetune"] > 0

    (elsewhere,) = inner_loop(context, state, masks, [probed], StreamName(8))
    assert elsewhere.scores["loss"] != outcome.scores["loss"], "the adaptation has randomness"
    without_masks = [next(inner_loop(context, state, None, [probed], StreamName(n))) for n in (7, 8)]
    assert without_masks[0].scores == without_masks[1].scores, "the probe has none"


def is_same_scores(first: Any, second: Any) -> bool:
    return set(first) == set(second) and all(np.array_equal(first[name], second[name]) for name in first)


def test_an_episode_by_the_probe(stage: Stage):
    plan = stage.random_plan(0)
    tuned, tuned_lm = stage.play(plan)
    for times in (1, 3):
        probed, probed_lm = stage.with_reward(evaluation="linear-probe", num_replicates=times).play(plan)
        assert is_same(tuned_lm, probed_lm)
        assert probed.lm_loss == tuned.lm_loss
        assert probed.task_steps == 0
        assert set(probed.scores) == set(tuned.scores)
        assert probed.scores["loss"] != tuned.scores["loss"]


def test_fine_tunings_again_differ_in_their_randomness_alone(stage: Stage):
    """The first is the single one to the bit; the others have heads and orders of their own."""
    context, (state, _, blocks), randomness = stage.runner.context, stage.start, StreamName(7)
    masks, (trial, _) = FixedMasks(blocks, stage.random_plan(0)), trials(stage)
    (single,) = inner_loop(context, state, masks, [trial], randomness)
    several = [replace(trial, replicate=again) for again in range(3)]
    first, second, third = inner_loop(context, state, masks, several, randomness)
    assert facts(first) == facts(single)
    assert is_same_scores(first.example_scores, single.example_scores)
    model = task_model(trial.task, context.model, randomness / "head")
    finetune(model, trial.train.features, trial.rows, context.finetune, context.runtime, randomness / "finetune")
    by_hand = evaluate(model, trial.task, trial.held_out.features, trial.held_out.examples, context.runtime)
    assert first.scores == by_hand.scores
    losses = {outcome.scores["loss"] for outcome in (first, second, third)}
    assert len(losses) == 3
    assert first.lm_loss == second.lm_loss == third.lm_loss
    (alone,) = inner_loop(context, state, masks, [several[2]], randomness)
    assert facts(alone) == facts(third)


def test_an_episode_of_several_fine_tunings_scores_their_mean(stage: Stage):
    plan, context = stage.random_plan(0), stage.runner.context
    single, adapted = stage.play(plan)
    once, _ = stage.with_reward(num_replicates=1).play(plan)
    assert facts(once) == facts(single)
    assert is_same_scores(once.example_scores, single.example_scores)

    outcome, adapted_again = stage.with_reward(num_replicates=3).play(plan)
    assert is_same(adapted, adapted_again)
    rows = stage.start.episode.row_ids
    held_out = stage.runner.validation
    apart = [Trial(stage.runner.task, stage.runner.train, rows, held_out, replicate=again) for again in range(3)]
    randomness = StreamName(stage.runner.seed) / "episode" / stage.start.episode.index
    each = list(inner_loop(context, stage.start.state, FixedMasks(stage.start.blocks, plan), apart, randomness))
    for name in single.scores:
        assert outcome.scores[name] == pytest.approx(np.mean([one.scores[name] for one in each]), rel=1e-12)
    for name, scores in outcome.example_scores.items():
        np.testing.assert_allclose(scores, np.mean([one.example_scores[name] for one in each], axis=0), rtol=1e-12)
        assert scores.mean() == pytest.approx(outcome.scores[name])
    assert outcome.task_steps == 3 * single.task_steps
    assert (outcome.lm_steps, outcome.masked_tokens, outcome.lm_loss) == (4, single.masked_tokens, single.lm_loss)


def test_seconds_of_several_trials_add_up_but_for_the_adaptation():
    def outcome(score: float, tuning: float) -> Outcome:
        seconds = {"adapt": 10.0, "finetune": tuning, "evaluate": 0.5}
        return Outcome({"loss": score}, {"loss": np.array([score, 0])}, 2.5, 8, 3, 40, 90, seconds)

    mean = mean_outcome([outcome(1.0, 2.0), outcome(2.0, 3.0)])
    assert mean.scores == {"loss": 1.5}
    assert mean.example_scores["loss"].tolist() == [1.5, 0]
    assert mean.seconds == {"adapt": 10.0, "finetune": 5.0, "evaluate": 1.0}
    assert (mean.lm_loss, mean.lm_steps, mean.task_steps, mean.masked_tokens, mean.tokens) == (2.5, 8, 6, 40, 90)
    alone = outcome(1.0, 2.0)
    assert mean_outcome([alone]) is alone
