"""The inner loop is a function: equal plans, equal outcomes; other plans, other outcomes."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from nmg.data.episodes import split_contexts
from nmg.inner.episode import EpisodeStart, Playground, Turn
from nmg.inner.lm import ModelState, copy_state
from nmg.inner.loop import Encoded, Trial, inner_loop
from nmg.inner.masks import FixedMasks
from nmg.masking.rules import RandomMasking
from nmg.reporter import Silent
from nmg.seeding import StreamName
from nmg.types import Episode, MaskPlan, Outcome
from nmg.workbench import Workbench
from support.runs import Inputs, is_same


class Stage(NamedTuple):
    playground: Playground
    start: EpisodeStart

    def play(self, plan: MaskPlan, start: ModelState | None = None) -> tuple[Outcome, ModelState]:
        shared = self.start if start is None else self.start._replace(state=start)
        outcome, adapted = self.playground.play(shared, Turn(plan, keep=True))
        assert adapted is not None
        return outcome, adapted

    def with_episode(self, episode: Episode) -> "Stage":
        return self._replace(start=self.start._replace(episode=episode))

    def random_plan(self, seed: int) -> MaskPlan:
        return RandomMasking().plan(self.start.blocks, 0.3, np.random.default_rng(seed))


@pytest.fixture
def stage(inputs: Inputs) -> Stage:
    config = inputs.config(adapt={"epochs": 2})
    bench = Workbench.prepare(config, Silent())
    assert bench.lm.model.config.hidden_dropout_prob > 0
    split = split_contexts(bench.data, config.meta, config.run.seed)
    train, validation = (Encoded.of(bench.task, e) for e in (bench.data.train, split.validation_examples))
    playground = Playground(bench.arena.silent(), bench.task, train, validation, config.run.seed)
    corpus = bench.corpus([context.text for context in bench.data.contexts])
    context_ids = split.train_context_ids[:8]
    block_ids = corpus.blocks_of(context_ids)
    example_ids = np.flatnonzero(np.isin([e.context_id for e in bench.data.train], context_ids))
    episode = Episode(3, block_ids, example_ids)
    return Stage(playground, EpisodeStart(copy_state(bench.lm.model), episode, corpus.blocks(block_ids)))


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
    assert is_same(copy_state(stage.playground.arena.model), adapted)
    stage.play(stage.random_plan(1))
    assert is_same(stage.start.state, before)
    assert is_same(adapted, kept)


def test_the_adapted_lm_comes_back_only_where_it_is_wanted(stage: Stage):
    assert stage.playground.play(stage.start, Turn(stage.random_plan(0), keep=False))[1] is None


def test_rows_are_those_of_the_episodes_examples(stage: Stage):
    episode = stage.start.episode
    few = stage.with_episode(replace(episode, example_ids=episode.example_ids[:3]))
    assert few.play(stage.random_plan(0))[0].task_steps == 1


def trials(stage: Stage) -> list[Trial]:
    """On few examples and on all."""
    task, train, held_out = stage.playground.task, stage.playground.train, stage.playground.validation
    return [Trial(task, train, np.arange(n), held_out) for n in (5, len(train.features))]


def test_trials_share_one_adaptation_and_do_not_touch_each_other(stage: Stage):
    arena, (state, _, blocks), randomness = stage.playground.arena, stage.start, StreamName(7)
    masks = FixedMasks(blocks, stage.random_plan(0))
    both = list(inner_loop(arena, state, masks, trials(stage), randomness))
    adapted = copy_state(arena.model)
    assert both[0].task_steps < both[1].task_steps
    for trial, outcome in zip(trials(stage), both, strict=True):
        (alone,) = inner_loop(arena, state, masks, [trial], randomness)
        assert facts(alone) == facts(outcome)
        assert is_same(copy_state(arena.model), adapted)


def test_without_masks_the_lm_is_the_one_it_starts_from(stage: Stage):
    arena, start = stage.playground.arena, stage.start.state
    stage.play(stage.random_plan(0))
    (outcome,) = inner_loop(arena, start, None, trials(stage)[:1], StreamName(7))
    assert is_same(copy_state(arena.model), start)
    assert np.isnan(outcome.lm_loss)
    assert (outcome.lm_steps, outcome.masked_tokens, outcome.tokens, outcome.seconds["adapt"]) == (0, 0, 0, 0.0)


def test_steps_take_the_place_of_epochs(stage: Stage):
    masks = FixedMasks(stage.start.blocks, stage.random_plan(0))
    outcomes = inner_loop(stage.playground.arena, stage.start.state, masks, trials(stage)[:1], StreamName(7), steps=3)
    assert [outcome.lm_steps for outcome in outcomes] == [3]
