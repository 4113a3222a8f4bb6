"""The whole method, on a miniature in which one class of words is worth masking: does the policy find it?"""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from nmg.inner.lm import encoder_states
from nmg.learners.actor_critic.learner import ActorCritic
from nmg.meta_train import MetaTraining
from nmg.policies.base import predict
from support.jargon import EPISODES, JARGON, pretrained, workbench


class Flipped(MetaTraining):
    """Pays for the worse score."""

    def _new_learner(self) -> ActorCritic:
        learner = super()._new_learner()
        score = learner.ground.score
        learner.ground = replace(learner.ground, score=lambda outcome: -score(outcome))
        return learner


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("planted"))


def jargon_share(training: MetaTraining) -> tuple[float, float]:
    """Probability that the learner's policy gives to jargon, and the share of jargon among maskable tokens."""
    blocks = training.corpus.blocks(np.arange(len(training.corpus)))
    ids = torch.tensor(training.lm.tokenizer.convert_tokens_to_ids(list(chain.from_iterable(JARGON))))
    is_jargon = torch.isin(blocks.input_ids, ids)
    training.lm.model.load_state_dict(training.pretrained)
    states = encoder_states(training.lm.model, blocks)
    probability = predict(training.learner.policy, states, blocks).softmax(dim=1)
    uniform = is_jargon.sum() / blocks.is_maskable.sum()
    return float((probability * is_jargon).sum(dim=1).mean()), float(uniform)


def test_policy_learns_to_mask_the_words_that_help(model: Path) -> None:
    training = MetaTraining(workbench(model, seed=0))
    before, uniform = jargon_share(training)
    assert before == pytest.approx(uniform, abs=0.05)
    for _ in range(EPISODES):
        training.episode()
    after, _ = jargon_share(training)
    assert after > 1.5 * uniform


def test_policy_shuns_these_words_when_the_reward_is_flipped(model: Path) -> None:
    training = Flipped(workbench(model, seed=0))
    for _ in range(EPISODES):
        training.episode()
    after, uniform = jargon_share(training)
    assert after < 0.75 * uniform
