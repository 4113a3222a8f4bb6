"""The first pairs of an experiment try the feature `credit` alone."""

import json
from typing import Any

import numpy as np
import pytest

from nmg.learners.base import LearnerState
from nmg.learners.experiment.regression import gain_limit, regress
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.experiment.stages import ExperimentState

from .helpers import FEATURES, World, by_class, episode, new_world

USEFUL = [f"w{letter}" for letter in "abcdefgh"]
"""Words that score, and that only credit distinguishes from others."""


@pytest.fixture(scope="module")
def credited(tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path_factory.mktemp("world"), USEFUL)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path_factory.mktemp("world"))


def direction(learner: Any, index: int) -> np.ndarray:
    players = learner._players(episode(index))
    plus, minus = (players[name].weights.detach().double().numpy() for name in ("plus", "minus"))
    np.testing.assert_array_equal(plus, -minus)
    return plus


def test_the_first_pairs_try_credit_alone(credited: World):
    """As long as other directions: std √F = 3 √7. Then come the random directions of the same episodes."""
    learner, without = credited.new(std=3.0, credit_pairs=2), credited.new(std=3.0, credit_pairs=0)
    for index in range(2):
        np.testing.assert_allclose(direction(learner, index), [*[0.0] * len(FEATURES), 3 * 7**0.5], rtol=1e-6)
    for index in range(2, 5):
        np.testing.assert_array_equal(direction(learner, index), direction(without, index))
        assert np.count_nonzero(direction(learner, index)) == 7


def test_without_the_feature_there_are_no_such_pairs(plain: World):
    one, other = plain.new(credit_pairs=0), plain.new(credit_pairs=4)
    for index in range(4):
        np.testing.assert_array_equal(direction(one, index), direction(other, index))
    assert one.state.to_json() == other.state.to_json()


def test_few_pairs_measure_the_weight_of_credit(credited: World):
    """Three pairs along credit say more about it than three random directions."""
    shares = {}
    for pairs in (0, 3):
        learners = [credited.new(seed, credit_pairs=pairs) for seed in range(2)]
        for learner in learners:
            credited.play(learner, by_class, range(3))
        shares[pairs] = np.mean([credited.share_of(learner.best_guess()) for learner in learners])
    assert shares[3] > shares[0] + 0.2


def test_the_limit_of_the_gain_leaves_out_the_first_pairs():
    """It is of random directions. The first of three looks comes after 3 + 5 pairs."""
    state, rng = ExperimentState.new(ExperimentSettings(budget=100), 3, n_fixed=2), np.random.default_rng(0)
    for _ in range(8):
        features = {name: rng.standard_normal(3) for name in ("plus", "minus")}
        state.record("explore", {name: float(rng.standard_normal()) for name in features}, features)
    x, y = state.rows()
    state.advance(regress(x, y), np.random.default_rng(9))
    assert state.possible_gain == gain_limit(x[2:], y[2:], 1 - 0.05 / 3, np.random.default_rng(9))


def test_a_resumed_experiment_has_as_many_first_pairs(credited: World):
    learner, resumed = credited.new(credit_pairs=3), credited.new(credit_pairs=3)
    resumed.restore(LearnerState(facts=json.loads(json.dumps(learner.save().facts))))
    for index in (2, 3):
        np.testing.assert_array_equal(direction(resumed, index), direction(learner, index))
