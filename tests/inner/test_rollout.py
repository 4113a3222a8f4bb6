"""The inner loop is a function: equal plans, equal outcomes; other plans, other outcomes."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from nmg.inner.lm import ModelState, copy_state
from nmg.inner.rollout import Arena, rollout
from nmg.masking.rules import RandomMasking
from nmg.meta_train import MetaTraining
from nmg.reporter import Silent
from nmg.setup import prepare
from nmg.types import Episode, MaskPlan, Outcome, TokenBlocks
from support.runs import Inputs, is_same


class Stage(NamedTuple):
    arena: Arena
    start: ModelState
    episode: Episode
    blocks: TokenBlocks


@pytest.fixture
def stage(inputs: Inputs) -> Stage:
    config = inputs.config(adapt={"epochs": 2})
    training = MetaTraining(prepare(config, Silent()))
    assert training.arena.model.config.hidden_dropout_prob > 0
    n = training.split.train_context_ids
    block_ids = training.corpus.blocks_of(n[:8])
    example_ids = np.flatnonzero(np.isin([e.context_id for e in training.data.train], n[:8]))
    episode = Episode(3, block_ids, example_ids)
    return Stage(training.arena, training.pretrained, episode, training.corpus.blocks(block_ids))


def random_plan(stage: Stage, seed: int) -> MaskPlan:
    return RandomMasking().plan(stage.blocks, 0.3, np.random.default_rng(seed))


def facts(outcome: Outcome) -> dict[str, object]:
    """All but the seconds."""
    return {name: value for name, value in vars(outcome).items() if name not in {"seconds", "example_scores"}}


def test_the_same_plan_gives_the_same_outcome_to_the_bit(stage: Stage):
    arena, start, episode, blocks = stage
    plan = random_plan(stage, 0)
    first, first_lm = rollout(arena, start, episode, blocks, plan)
    other, other_lm = rollout(arena, start, episode, blocks, random_plan(stage, 1))
    torch.manual_seed(99)  # global generators do not matter
    again, again_lm = rollout(arena, start, episode, blocks, replace(plan))
    assert facts(first) == facts(again)
    assert set(first.example_scores) == {"accuracy", "loss"}
    for name, scores in first.example_scores.items():
        assert np.array_equal(scores, again.example_scores[name])
    assert is_same(first_lm, again_lm)

    assert first.scores["loss"] != other.scores["loss"]
    assert first.lm_loss != other.lm_loss
    assert not is_same(first_lm, other_lm)
    assert first.masked_tokens == other.masked_tokens == 2 * int(plan.budget.sum())
    assert (first.lm_steps, first.task_steps) == (4, 2)


def test_log_probabilities_and_values_do_not_reach_the_inner_loop(stage: Stage):
    arena, start, episode, blocks = stage
    plan = random_plan(stage, 0)
    learned = replace(plan, log_prob=torch.rand(plan.positions.shape), value=torch.rand(len(plan.budget)))
    assert facts(rollout(arena, start, episode, blocks, plan)[0]) == facts(
        rollout(arena, start, episode, blocks, learned)[0]
    )


def test_an_outcome_depends_on_the_episode_and_on_the_start(stage: Stage):
    arena, start, episode, blocks = stage
    plan = random_plan(stage, 0)
    outcome, adapted = rollout(arena, start, episode, blocks, plan)
    assert outcome.scores["loss"] != rollout(arena, start, replace(episode, index=4), blocks, plan)[0].scores["loss"]
    assert outcome.scores["loss"] != rollout(arena, adapted, episode, blocks, plan)[0].scores["loss"]


def test_the_start_stays_as_it_is_and_the_model_is_a_working_copy(stage: Stage):
    arena, start, episode, blocks = stage
    before = {name: tensor.clone() for name, tensor in start.items()}
    _, adapted = rollout(arena, start, episode, blocks, random_plan(stage, 0))
    kept = {name: tensor.clone() for name, tensor in adapted.items()}
    assert is_same(copy_state(arena.model), adapted)
    rollout(arena, start, episode, blocks, random_plan(stage, 1))
    assert is_same(start, before)
    assert is_same(adapted, kept)


def test_rows_are_those_of_the_episodes_examples(stage: Stage):
    arena, start, episode, blocks = stage
    few = replace(episode, example_ids=episode.example_ids[:3])
    assert rollout(arena, start, few, blocks, random_plan(stage, 0))[0].task_steps == 1
