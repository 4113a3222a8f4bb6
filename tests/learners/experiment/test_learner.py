"""The experiment: mirrored players, a planted class that it finds, chance that it does not believe."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nmg.base.types import MaskPlan
from nmg.learners.base import LearnerState
from nmg.learners.experiment.learner import Experiment
from nmg.learners.experiment.regression import f_test, regress
from nmg.policies.base import predict
from nmg.policies.linear import LinearPolicy
from nmg.policies.registry import load_policy
from nmg.policies.sampling import draw_plan
from support.runs import is_same
from support.trials import scored

from .helpers import FEATURES, RATE, World, by_chance, by_class, episode, new_world, reader


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path_factory.mktemp("world"))


def propose(world: World, learner: Experiment, index: int = 0) -> dict[str, Any]:
    return dict(learner.propose(episode(index), world.blocks, reader))


def weights(policy: Any) -> np.ndarray:
    return policy.weights.detach().double().numpy().copy()


def mean_features(world: World, plan: MaskPlan) -> np.ndarray:
    """[F] of the masked tokens, one by one."""
    seen, rows = world.policy.observe(world.blocks, reader).double().numpy(), []
    for row, positions in enumerate(plan.positions.tolist()):
        rows += [seen[row, position] for position in positions if position >= 0]
    return np.mean(rows, axis=0)


def test_whole_words_are_played_where_the_policy_takes_words(world: World):
    learner = world.new(seed=4)
    learner._template.config = replace(learner._template.config, unit="word")
    plans = propose(world, learner, 7)
    observation = world.policy.observe(world.blocks, reader)
    for name, policy in learner._players(episode(7)).items():
        noise = (learner.ground.randomness / "episode" / 7 / "actions").generator()
        logits = predict(policy, observation, world.blocks)
        drawn = draw_plan(logits, world.blocks, RATE, noise, "word")
        assert torch.equal(drawn.positions, plans[name].positions)
        assert plans[name].log_prob is None


def test_players_are_mirrored_and_draw_under_the_same_noise(world: World):
    learner = world.new(seed=4, std=1.5)
    plans = propose(world, learner, 7)
    players = learner._players(episode(7))
    assert list(plans) == list(players) == ["plus", "minus"]
    np.testing.assert_array_equal(weights(players["plus"]), -weights(players["minus"]))
    observation = world.policy.observe(world.blocks, reader)
    for name, policy in players.items():
        noise = (learner.ground.randomness / "episode" / 7 / "actions").generator()
        drawn = draw_plan(predict(policy, observation, world.blocks), world.blocks, RATE, noise)
        assert torch.equal(drawn.positions, plans[name].positions)
    assert not torch.equal(plans["plus"].positions, plans["minus"].positions)

    still = propose(world, world.new(seed=4, std=1e-9), 7)
    assert torch.equal(still["plus"].positions, still["minus"].positions)


def test_directions_are_drawn_anew_with_the_spread_that_is_asked_for(world: World):
    learner = world.new(seed=1, std=3.0)
    drawn = np.array([weights(learner._players(episode(index))["plus"]) for index in range(200)])
    assert drawn.std() == pytest.approx(3.0, rel=0.1)
    assert drawn.mean() == pytest.approx(0.0, abs=0.3)
    np.testing.assert_array_equal(drawn[5], weights(world.new(seed=1, std=3.0)._players(episode(5))["plus"]))
    assert not np.array_equal(drawn[5], weights(world.new(seed=2, std=3.0)._players(episode(5))["plus"]))


def test_a_row_is_the_difference_of_what_was_masked_and_of_what_it_scored(world: World):
    learner = world.new()
    plans = propose(world, learner)
    record = learner.learn(episode(0), {name: scored({"gain": gain}) for name, gain in SCORES.items()})
    assert record == {"stage": "explore", "trials": 2, "difference": 0.75 - 0.5}
    (x,), (y,) = learner.state.rows()
    by_hand = mean_features(world, plans["plus"]) - mean_features(world, plans["minus"])
    np.testing.assert_allclose(x, by_hand, atol=1e-6)
    assert np.abs(x).max() > 0.1
    assert y == 0.25


SCORES = {"plus": 0.75, "minus": 0.5}


def test_the_stages_play_whom_they_should(world: World):
    learner, names, shared = world.new(budget=40), {}, {}
    for index in range(40):
        if learner.is_finished:
            break
        stage = learner.state.stage
        plans = propose(world, learner, index)
        assert len(plans) <= learner.capabilities.max_players
        names.setdefault(stage, list(plans))
        shared[stage] = learner._players(episode(index))
        learner.learn(episode(index), {n: scored({"gain": world.share(p) or 0.0}) for n, p in plans.items()})
    assert names == {
        "explore": ["plus", "minus"],
        "tune": ["random", "idf-2", "idf-5", "idf-10", "learned-1", "learned-2", "learned-4"],
        "gate": ["policy", "rule", "random", "none"],
    }
    tuned, state = shared["tune"], learner.state
    assert not weights(tuned["random"]).any()
    for exponent in (2, 5, 10):
        idf = FEATURES.index("idf")
        slope = weights(tuned[f"idf-{exponent}"]) / world.policy.deviation.double().numpy()
        np.testing.assert_allclose(slope, np.eye(len(FEATURES))[idf] * exponent, atol=1e-5)
    for strength in (1, 2, 4):
        np.testing.assert_allclose(
            weights(tuned[f"learned-{strength}"]), strength * np.array(state.direction), rtol=1e-6
        )
    assert np.linalg.norm(state.direction) == pytest.approx(1)
    gate = shared["gate"]
    np.testing.assert_allclose(weights(gate["policy"]), state.strength * np.array(state.direction), rtol=1e-6)
    assert is_same(gate["rule"], learner._rule(state.rule))
    assert not weights(gate["random"]).any()
    assert gate["none"] is None
    assert plans["none"] is None, "no masks: the player is scored without adaptation"
    assert state.trials <= 40


def test_no_adaptation_has_no_row_in_the_regression(world: World):
    learner = world.new(seed=1, budget=40)
    index = 0
    while learner.state.stage != "gate":
        world.play(learner, episodes=[index])
        index += 1
    before = len(learner.state.y)
    plans = propose(world, learner, 30)
    given = {"policy": 0.9, "rule": 0.6, "random": 0.4, "none": -50.0}
    learner.learn(episode(30), {name: scored({"gain": given[name]}) for name in plans})
    masked = [mean_features(world, plans[name]) for name in ("policy", "rule", "random")]
    assert len(learner.state.y) == before + 2
    np.testing.assert_allclose(learner.state.y[before:], [0.3, np.sqrt(4 / 3) * (0.75 - 0.4)])
    np.testing.assert_allclose(learner.state.x[before], masked[0] - masked[1], atol=1e-6)
    assert learner.state.gate_scores == [given]


def test_where_adapting_harms_no_adaptation_is_selected(world: World):
    """The run has no policy to return then, but keeps what it learned."""
    learner = world.new(seed=3, budget=80)
    assert learner.has_policy
    world.play(learner, lambda player, share, rng: 2.0 if share is None else by_class(player, share, rng))
    found = learner.findings()
    assert found["selected"] == "none"
    assert not learner.has_policy
    assert found["gate"]["against"]["none"]["mean"] < 0 < found["gate"]["against"]["random"]["mean"]
    assert world.share_of(learner.extra_policies()["learned"]) > 0.5
    assert is_same(learner.policy, learner._rule(learner.state.rule))


def test_random_masks_are_selected_where_they_are_best(world: World):
    learner = world.new(seed=3, budget=80)
    world.play(learner, lambda player, _share, rng: float(player == "random") + 0.1 * float(rng.standard_normal()))
    assert learner.findings()["selected"] == "random"
    assert learner.has_policy
    assert not weights(learner.policy).any()


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_it_finds_a_planted_class_within_120_plays(world: World, seed: int):
    """A quarter of the tokens; masks that it hands out hold them at least twice as often."""
    learner = world.new(seed, budget=120)
    assert not weights(learner.policy).any(), "before anything is known, random"
    assert world.share_of(learner.policy) == pytest.approx(0.25, abs=0.06)
    records = world.play(learner)
    assert learner.state.trials <= 120
    assert len(records) <= learner.capabilities.max_episodes
    assert learner.state.selected == "policy"
    assert world.share_of(learner.policy) > 0.5
    assert world.share_of(learner.best_guess()) > 0.5
    found = learner.effects()
    digit = FEATURES.index("digit")
    assert found.mean.argmax() == digit
    assert found.mean[digit] > 1.96 * found.deviation[digit]
    assert found.f_p is not None
    assert found.f_p < 0.001
    assert learner.findings()["selected"] == "policy"


def test_where_masks_do_nothing_no_policy_is_selected(world: World):
    """In all but those of 20 seeds that the gate's level lets pass."""
    passed, rejected = [], []
    for seed in range(20):
        learner = world.new(seed, budget=60)
        world.play(learner, by_chance)
        passed.append(learner.state.selected == "policy")
        rejected.append((learner.effects().f_p or 1.0) < 0.05)
        if learner.state.selected == "rule":
            assert is_same(learner.policy, learner._rule(learner.state.rule))
    assert sum(passed) <= 3
    assert sum(rejected) <= 3


def test_exploration_ends_early_on_a_plain_effect(world: World):
    learner = world.new(budget=400)
    world.play(learner, lambda _player, share, rng: (share or 0.0) + 0.02 * float(rng.standard_normal()))
    assert learner.state.n_explored == len(FEATURES) + 5
    assert len(learner.state.gate_scores) > 70


def test_scores_that_all_tie_end_as_they_may(world: World):
    """No NaN, and nothing is believed; where a gain must be had, exploration ends at the first look."""
    for min_effect, explored in ((0.0, 16), (0.01, len(FEATURES) + 5)):
        learner = world.new(budget=80, min_effect=min_effect)
        world.play(learner, lambda _player, _share, _rng: 0.5)
        assert learner.state.n_explored == explored
        assert learner.state.is_futile is (min_effect > 0)
        assert learner.state.selected == ("random" if min_effect else "none"), "the simplest of equals"
        json.dumps(learner.findings(), allow_nan=False)
        assert not weights(learner.policy).any()
        for policy in learner.extra_policies().values():
            assert np.isfinite(weights(policy)).all()


def test_the_f_test_is_of_the_first_stage(world: World):
    """What is played later was chosen by what the first showed."""
    learner = world.new(budget=60)
    world.play(learner)
    x, y = learner.state.rows()
    n = learner.state.n_explored
    assert n == 12 < len(y)
    found = learner.effects()
    assert (found.f, found.f_p) == f_test(x[:n], y[:n])
    whole = regress(x, y)
    np.testing.assert_array_equal(found.mean, whole.mean)
    assert found.n == len(y)


@pytest.mark.parametrize("pause", [0, 3, 17, 18, 22, 40])
def test_it_goes_on_where_it_was_saved(world: World, pause: int):
    """In every stage, and to the bit."""
    settings: dict[str, Any] = {"seed": 2, "budget": 70}
    whole, part = world.new(**settings), world.new(**settings)
    records = world.play(whole)
    before = world.play(part, episodes=range(pause))
    resumed = world.new(**settings)
    resumed.restore(LearnerState(facts=json.loads(json.dumps(part.save().facts))))
    assert resumed.state == part.state
    after = world.play(resumed, episodes=range(pause, 1000))
    assert before + after == records
    assert resumed.state == whole.state
    assert is_same(resumed.policy, whole.policy)
    assert json.dumps(resumed.findings()) == json.dumps(whole.findings())
    for name, policy in whole.extra_policies().items():
        assert is_same(policy, resumed.extra_policies()[name])


def test_a_checkpoint_without_its_book_is_not_its_own(world: World):
    with pytest.raises(KeyError):
        world.new().restore(LearnerState())


def test_what_it_tells(world: World):
    learner = world.new(seed=1, budget=60)
    early = learner.findings()
    assert (early["stage"], early["trials"], early["pairs"], early["f"]) == ("explore", 0, 0, None)
    world.play(learner, episodes=range(4))
    assert learner.findings()["tuned"] == {}
    world.play(learner, episodes=range(4, 1000))
    told = json.loads(json.dumps(learner.findings(), allow_nan=False))
    assert told["stage"] == "done"
    assert [one["feature"] for one in told["features"]] == list(FEATURES)
    assert told["trials"] == learner.state.trials
    assert told["pairs"] == len(learner.state.y)
    assert told["length"] == learner.effects().length
    assert 0 < told["placebo_length"]["median"] < told["placebo_length"]["high"] < told["length"]
    assert set(told["tuned"]) == {"random", "idf-2", "idf-5", "idf-10", "learned-1", "learned-2", "learned-4"}
    assert told["gate"]["n"] == len(learner.state.gate_scores)
    assert told["strength"] == learner.state.strength
    assert told["selected"] == "policy"
    assert told["possible_gain"] > 0.5


def test_what_it_leaves_beside_its_policy(world: World, tmp_path: Any):
    """The placebo is as long as what was learned, and goes elsewhere."""
    learner = world.new(seed=1, budget=60)
    world.play(learner)
    extra = learner.extra_policies()
    assert set(extra) == {"learned", "rule", "placebo"}
    assert is_same(extra["learned"], learner.policy)
    assert is_same(extra["rule"], learner._rule(learner.state.rule))
    learned, placebo = weights(extra["learned"]), weights(extra["placebo"])
    assert np.linalg.norm(placebo) == pytest.approx(np.linalg.norm(learned), rel=1e-5)
    assert placebo @ learned / np.linalg.norm(learned) ** 2 < 0.9
    for name, policy in extra.items():
        policy.save_pretrained(tmp_path / name)
        loaded = load_policy(tmp_path / name)
        assert isinstance(loaded, LinearPolicy)
        assert loaded.config.features == FEATURES
        assert is_same(loaded, policy)

    unfinished = world.new(seed=1, budget=60)
    world.play(unfinished, episodes=range(9))
    assert np.linalg.norm(weights(unfinished.extra_policies()["placebo"])) == pytest.approx(4, rel=1e-5)
    assert not weights(world.new().extra_policies()["placebo"]).any()


def test_players_that_diverge_do_not_end_the_run(world: World):
    def score(player: str, share: float, rng: np.random.Generator) -> float:
        drawn = by_class(player, share, rng)
        return float("nan") if rng.random() < 0.1 else drawn

    learner = world.new(seed=0, budget=120)
    world.play(learner, score)
    assert learner.is_finished
    json.dumps(learner.findings(), allow_nan=False)
    json.dumps(learner.save().facts, allow_nan=False)
    assert world.share_of(learner.best_guess()) > 0.5
