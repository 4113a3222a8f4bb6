"""The whole method, on a miniature in which one class of words is worth masking: does the learned policy find it?

*Found*: the probability that the policy gives to jargon, on average over the texts, is at least twice the share of
jargon among maskable tokens, that of random masks; *shunned*: at most half of it. Both for the policy that was learned
and for the one that is handed out (where the gate refuses what was learned, that is a rule, or random masks).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from nmg.meta_training.loop import MetaTraining
from nmg.policies.base import Policy, predict
from support.jargon import JARGON, LINEAR, Fields, pretrained, workbench

SEEDS = range(100, 110)
"""drawn before any of them was run; what the miniature is like was settled on others, 0 to 9"""
BLIND: Fields = {**LINEAR, "features": ["idf", "repeated", "concentration"]}
"""a policy of features none of which tells jargon from all other words"""


@dataclass(frozen=True)
class Learned:
    """How many times as probable jargon is under a policy as under random masks."""

    learned: float
    selected: float

    @property
    def found(self) -> bool:
        return min(self.learned, self.selected) >= 2

    @property
    def shunned(self) -> bool:
        return max(self.learned, self.selected) <= 0.5


Play: TypeAlias = Callable[..., Learned]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def play(model: Path) -> Play:
    @cache
    def run(seed: int, *, flipped: bool = False, blind: bool = False) -> Learned:
        training = MetaTraining(workbench(model, seed, policy=BLIND if blind else LINEAR))
        learner = training.learner
        if flipped:  # pays for the worse score
            score = learner.ground.score
            learner.ground = replace(learner.ground, score=lambda outcome: -score(outcome))
        while not training.is_finished:
            training.episode()
        return Learned(leaning(training, learner.extra_policies()["learned"]), leaning(training, learner.policy))

    return run


def leaning(training: MetaTraining, policy: Policy) -> float:
    """Probability of jargon under a policy, in units of its share of the maskable tokens."""
    blocks = training.corpus.blocks(np.arange(len(training.corpus)))
    ids = torch.tensor(training.lm.tokenizer.convert_tokens_to_ids(list(chain.from_iterable(JARGON))))
    is_jargon = torch.isin(blocks.input_ids, ids)
    training.lm.model.load_state_dict(training.pretrained)
    probability = predict(policy, policy.observe(blocks, training.context.reader), blocks).softmax(dim=1)
    return float((probability * is_jargon).sum(dim=1).mean() / (is_jargon.sum() / blocks.is_maskable.sum()))


@pytest.mark.parametrize("seed", [100, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (101, 102))])
def test_policy_learns_to_mask_the_words_that_help(play: Play, seed: int) -> None:
    assert play(seed).learned >= 2


@pytest.mark.slow
def test_the_gate_selects_what_was_learned_in_most_runs(play: Play) -> None:
    """Not in all: with this budget the gate has few episodes to beat three alternatives."""
    assert sum(play(seed).found for seed in SEEDS[:3]) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101, 102])
def test_policy_shuns_these_words_when_the_reward_is_flipped(play: Play, seed: int) -> None:
    assert play(seed, flipped=True).shunned


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nine_of_ten_runs_find_the_words_and_nine_shun_them_when_the_reward_is_flipped(play: Play) -> None:
    assert sum(play(seed).learned >= 2 for seed in SEEDS) >= 9
    assert sum(play(seed, flipped=True).learned <= 0.5 for seed in SEEDS) >= 9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_found_by_features_that_cannot_tell_these_words_apart(play: Play) -> None:
    """The control: what the test calls found is in the features that tell words apart, not in how it is played."""
    assert sum(play(seed, blind=True).found for seed in SEEDS) <= 1


def test_the_published_learner_runs(model: Path) -> None:
    """That it learns is not claimed: in 24 episodes it came to prefer these words from one of six seeds only.

    Each episode tells it one number, which it credits to every action of its own; it has a network to learn from that.
    """
    learner = {"kind": "actor-critic", "self_play": "random", "reward": "difference", "learning_starts": 20}
    training = MetaTraining(workbench(model, 0, {"kind": "attention", "hidden": 32}, learner))
    before = {name: tensor.clone() for name, tensor in training.learner.policy.state_dict().items()}
    records = [training.episode() for _ in range(3)]
    assert all(set(record.scores) == {"learner", "random"} for record in records)
    after = training.learner.policy.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(tensor.isfinite().all() for tensor in after.values())
