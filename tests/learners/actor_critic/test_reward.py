"""Rewards and credit."""

import itertools
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from nmg.learners.actor_critic.reward import WINDOW, ScoreNoise, credit, credit_by_case, difference_reward, sign_reward

from .helpers import plan_of

SIGNS = (-1.0, 0.0, 1.0)


def test_the_sign_of_the_difference_with_ties() -> None:
    assert sign_reward(0.7, 0.6) == 1.0
    assert sign_reward(0.6, 0.7) == -1.0
    assert sign_reward(0.6, 0.6) == 0.0
    with pytest.raises(ValueError, match="nan"):
        sign_reward(math.nan, 0.5)


def _noise(*differences: float) -> ScoreNoise:
    noise = ScoreNoise()
    for difference in differences:
        noise.observe(difference)
    return noise


def test_the_noise_is_the_median_size_of_recent_differences_as_a_deviation() -> None:
    assert ScoreNoise().scale == 0.0
    assert _noise(0.0, 0.0).scale == 0.0
    assert _noise(0.03, -0.04, 0.0, 0.09).scale == pytest.approx(1.4826 * 0.04)
    assert _noise(-0.03, 0.05).scale == pytest.approx(1.4826 * 0.04)
    saved = json.loads(json.dumps(asdict(_noise(0.03, -0.04))))
    assert ScoreNoise.from_facts(saved) == _noise(0.03, -0.04)


def test_the_noise_of_normal_differences_is_their_standard_deviation() -> None:
    scales = [_noise(*np.random.default_rng(seed).normal(0, 0.02, WINDOW)).scale for seed in range(50)]
    assert np.mean(scales) == pytest.approx(0.02, rel=0.03)


def test_one_outlier_does_not_shrink_what_comes_after_it() -> None:
    usual = np.random.default_rng(0).normal(0, 0.01, 20).tolist()
    before, after = _noise(*usual), _noise(*usual, 50.0)
    assert after.scale == pytest.approx(before.scale, rel=0.2)
    assert difference_reward(0.71, 0.70, after, clip=3.0) > 0.8


def test_only_recent_differences_count() -> None:
    noise = _noise(*[1.0] * WINDOW, *[0.0] * WINDOW)
    assert noise.scale == pytest.approx(1.4826), "ties push nothing out"
    for _ in range(WINDOW):
        noise.observe(0.01)
    assert noise.scale == pytest.approx(0.014826)
    assert len(noise.recent) == WINDOW


def test_the_difference_reward_is_in_units_of_the_noise() -> None:
    noise = _noise(0.02 / 1.4826, -0.02 / 1.4826)
    assert difference_reward(0.71, 0.70, noise, clip=3.0) == pytest.approx(0.5)
    assert difference_reward(0.70, 0.71, noise, clip=3.0) == pytest.approx(-0.5)
    assert difference_reward(0.9, 0.7, noise, clip=3.0) == 3.0
    assert difference_reward(0.7, 0.9, noise, clip=2.0) == -2.0


def test_equal_scores_earn_nothing_even_before_any_difference_was_seen() -> None:
    assert difference_reward(0.7, 0.7, _noise(0.0), clip=3.0) == 0.0
    assert difference_reward(0.7, 0.7, ScoreNoise(), clip=3.0) == 0.0


def test_the_first_difference_is_the_median_of_itself() -> None:
    assert difference_reward(0.8, 0.7, _noise(0.8 - 0.7), clip=3.0) == pytest.approx(1 / 1.4826)


def test_a_score_that_is_not_a_number_is_refused() -> None:
    for learner, other in ((math.nan, 0.5), (0.5, math.nan)):
        with pytest.raises(ValueError, match="nan"):
            difference_reward(learner, other, _noise(0.1), clip=3.0)


@pytest.mark.parametrize(("r_rival", "r_random"), list(itertools.product(SIGNS, SIGNS)))
def test_the_table_of_credit(r_rival: float, r_random: float) -> None:
    # Position 1: only own; 2: in random too; 3: in the rival too; 4: in all.
    reward, is_stored = credit(
        plan_of([[1, 2, 3, 4]]), plan_of([[3, 4, 5]]), plan_of([[2, 4]]), r_rival, r_random, n_tokens=7
    )
    assert reward.tolist() == [[min(r_rival, r_random), r_rival, r_random, 0.0]]
    assert is_stored.tolist() == [[True, True, True, False]]
    assert reward.dtype == torch.float32


def _slow_credit(
    own: list[int], rival: list[int], random: list[int], r_rival: float, r_random: float
) -> dict[int, float]:
    """position → reward of a stored action, one by one"""
    rewards = {}
    for position in own:
        if position in rival and position in random:
            continue
        if position in rival:
            rewards[position] = r_random
        elif position in random:
            rewards[position] = r_rival
        else:
            rewards[position] = min(r_rival, r_random)
    return rewards


def test_credit_of_random_plans_is_that_of_the_slow_version() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        players = [[rng.permutation(9)[: rng.integers(0, 7)].tolist() for _ in range(4)] for _ in range(3)]
        r_rival, r_random = rng.normal(size=2).round(2).tolist()
        own = plan_of(players[0])
        reward, is_stored = credit(own, plan_of(players[1]), plan_of(players[2]), r_rival, r_random, n_tokens=9)
        assert reward.shape == is_stored.shape == own.positions.shape
        assert not reward[~is_stored].any()
        for b, (mine, rival, random) in enumerate(zip(*players, strict=True)):
            stored = is_stored[b]
            found = dict(zip(own.positions[b, stored].tolist(), reward[b, stored].tolist(), strict=True))
            assert found == pytest.approx(_slow_credit(mine, rival, random, r_rival, r_random))


def test_credit_by_case_counts_the_rows_of_the_table() -> None:
    # Positions 1 and 5: only own; 2: in random too; 3: in the rival too; 4 and 6: in all. The second block is padded.
    own, rival, random = plan_of([[1, 2, 3, 4], [4, 5, 6]]), plan_of([[3, 4], [4, 6]]), plan_of([[2, 4], [4, 6]])
    reward, _ = credit(own, rival, random, 0.5, -0.25, n_tokens=8)
    assert credit_by_case(own, rival, random, reward, n_tokens=8) == {
        "alone": {"actions": 2, "reward": -0.25},
        "with_random": {"actions": 1, "reward": 0.5},
        "with_opponent": {"actions": 1, "reward": -0.25},
        "with_both": {"actions": 3, "reward": 0.0},
    }


def test_credit_by_case_leaves_out_what_nobody_did() -> None:
    own, other = plan_of([[1, 2], []]), plan_of([[3], [1]])
    reward, _ = credit(own, other, other, 1.0, 1.0, n_tokens=5)
    assert credit_by_case(own, other, other, reward, n_tokens=5) == {"alone": {"actions": 2, "reward": 1.0}}
    nobody = plan_of([[], []])
    assert credit_by_case(nobody, other, other, torch.zeros(2, 0), n_tokens=5) == {}


def test_credit_by_case_of_random_plans_is_that_of_the_slow_version() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        players = [[rng.permutation(9)[: rng.integers(0, 7)].tolist() for _ in range(4)] for _ in range(3)]
        own, rival, random = map(plan_of, players)
        reward, is_stored = credit(own, rival, random, 0.7, -0.2, n_tokens=9)
        found = credit_by_case(own, rival, random, reward, n_tokens=9)
        names = {(0, 0): "alone", (0, 1): "with_random", (1, 0): "with_opponent", (1, 1): "with_both"}
        slow: dict[str, int] = {}
        for mine, theirs, randoms in zip(*players, strict=True):
            for position in mine:
                name = names[position in theirs, position in randoms]
                slow[name] = slow.get(name, 0) + 1
        assert {case: counted["actions"] for case, counted in found.items()} == slow
        stored = [counted for case, counted in found.items() if case != "with_both"]
        assert sum(counted["actions"] for counted in stored) == int(is_stored.sum())
        total = sum(counted["actions"] * counted["reward"] for counted in stored)
        assert total == pytest.approx(float(reward.sum()), abs=1e-5)


def test_while_the_opponent_is_the_random_player_shared_actions_are_dropped() -> None:
    random = plan_of([[1, 2]])
    reward, is_stored = credit(plan_of([[2, 3]]), random, random, 1.0, 1.0, n_tokens=5)
    assert is_stored.tolist() == [[False, True]]
    assert reward.tolist() == [[0.0, 1.0]]


def test_roles_swap_with_their_own_signs() -> None:
    learner, opponent, random = plan_of([[1, 2]]), plan_of([[1, 3]]), plan_of([[4, 5]])
    # Scores: learner 0.8, opponent 0.6, random 0.7.
    mine, _ = credit(learner, opponent, random, sign_reward(0.8, 0.6), sign_reward(0.8, 0.7), n_tokens=6)
    theirs, _ = credit(opponent, learner, random, sign_reward(0.6, 0.8), sign_reward(0.6, 0.7), n_tokens=6)
    assert mine.tolist() == [[1.0, 1.0]]
    assert theirs.tolist() == [[-1.0, -1.0]]
