"""An experiment that varies the recipe with the masks: it finds both, and believes neither by chance."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from nmg.base.trial import Condition, TrialSpec
from nmg.base.trial_recipe import TrialRecipe
from nmg.config import Config
from nmg.learners.base import LearnerState
from nmg.learners.experiment import regression
from nmg.learners.experiment.factors import FACTORS, draw_levels, recipe_at, terms
from nmg.learners.experiment.regression import regress
from nmg.learners.experiment.response import Response, response, without_factors
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.experiment.stages import planned_players
from nmg.policies.registry import load_policy

from .helpers import CONFIGURED, RATE, World, by_chance, episode, new_world, reader

BEST = 0.7
"""Level of the learning rate with the highest score in the simulated world."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path_factory.mktemp("world"))


def by_learning_rate(recipe: TrialRecipe) -> float:
    """Half at the best learning rate, less on both sides; 0 at the configured one."""
    level = math.log2((recipe.learning_rate or 1e-4) / 1e-4)
    return 0.5 * (BEST**2 - (level - BEST) ** 2) / BEST**2


def test_masks_and_learning_rate_are_both_found(world: World):
    learner = world.new(seed=1, budget=160, factors=("learning-rate", "steps"))
    world.play(learner, by_recipe=by_learning_rate)
    told = json.loads(json.dumps(learner.findings(), allow_nan=False))
    assert told["selected"] == "policy"
    assert world.share_of(learner.policy) > 0.5
    assert told["recipe"]["learning_rate"] == pytest.approx(1e-4 * 2**BEST, rel=0.25)
    rate, steps = told["factors"]
    assert rate["low"] < 1 / BEST < rate["high"], "the slope at the configured value"
    assert rate["curvature"] == pytest.approx(-0.5 / BEST**2, abs=0.4)
    assert steps["low"] < 0 < steps["high"]
    gate = told["gate"]
    assert gate["masks"]["p"] < 0.05
    assert gate["masks"]["mean"] == pytest.approx(gate["against"]["random"]["mean"] - gate["recipe"]["random"]["mean"])
    assert learner.state.trials <= 160


def test_a_recipe_without_an_effect_of_masks_is_selected_alone(world: World, tmp_path: Any):
    learner = world.new(seed=0, budget=160, factors=("learning-rate",))
    world.play(
        learner,
        lambda _player, share, rng: (share is not None) + 0.1 * by_chance("", share, rng),
        by_recipe=by_learning_rate,
    )
    assert learner.state.selected == "recipe"
    learner.policy.save_pretrained(tmp_path)
    policy = load_policy(tmp_path)
    assert policy.as_rule() == "random masks"
    assert policy.config.recipe is not None
    assert policy.config.recipe.learning_rate == pytest.approx(1e-4 * 2**BEST, rel=0.25)
    assert learner.extra_policies()["rule"].config.recipe is None, "rules take part under the configured recipe"


def test_nothing_is_selected_without_an_effect(world: World):
    selected = []
    for seed in range(8):
        learner = world.new(seed, budget=50, factors=("learning-rate", "rate"))
        world.play(learner, by_chance)
        selected.append(learner.state.selected)
    assert sum(name in {"policy", "recipe"} for name in selected) <= 1


def test_players_of_a_pair_have_other_levels_and_the_same_directions_as_without_factors(world: World):
    plain, varied = world.new(seed=4), world.new(seed=4, factors=("rate",))
    for index in range(6):
        plans = varied.propose(episode(index), world.blocks, reader)
        recipes = varied.recipes(episode(index))
        rates = [(recipes.get(name, CONFIGURED).rate) for name in ("plus", "minus")]
        assert rates[0] != rates[1]
        for name, rate in zip(("plus", "minus"), rates, strict=True):
            assert plans[name].budget.tolist() == world.blocks.budgets(rate).tolist()
        directions = [one._players(episode(index))["plus"].weights for one in (plain, varied)]
        assert torch.equal(*directions)


def test_a_better_unit_is_found_and_its_players_mask_words(world: World):
    learner = world.new(seed=3, budget=60, factors=("unit",))
    plans = learner.propose(episode(0), world.blocks, reader)
    (of_words,) = [name for name, recipe in learner.recipes(episode(0)).items() if recipe.unit == "word"]
    assert {name for name, plan in plans.items() if plan.log_prob is None} == {of_words}
    learner = world.new(seed=3, budget=60, factors=("unit",))
    world.play(learner, by_recipe=lambda recipe: 2.0 * (recipe.unit == "word"))
    told = learner.findings()
    assert told["recipe"] == {"unit": "word"}
    assert told["factors"][0]["low"] < 2.0 < told["factors"][0]["high"]
    assert told["factors"][0]["low"] > 1.0
    assert learner.extra_policies()["learned"].config.unit == "word"
    assert learner.extra_policies()["rule"].config.unit == "token"


def test_levels_are_all_pairs_of_different_ones():
    names = ("learning-rate", "rate", "unit")
    drawn = [draw_levels(names, np.random.default_rng(seed)) for seed in range(100)]
    pairs = [{tuple(levels[:, factor]) for levels in drawn} for factor in range(3)]
    assert pairs[0] == pairs[1] == {(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a != b}
    assert pairs[2] == {(0, 1), (1, 0)}
    assert any(tuple(levels[:, 0]) != tuple(levels[:, 1]) for levels in drawn), "factors are drawn independently"
    assert terms(names, np.array([-1.0, 0.5, 1.0])).tolist() == [-1.0, 0.5, 1.0, 1.0, 0.25, 0.0]


def test_a_level_is_a_value_of_the_setting():
    names = ("learning-rate", "steps", "rate")
    assert recipe_at(names, np.zeros(3), CONFIGURED) is None
    recipe = recipe_at(names, np.array([-1.0, 1.0, 0.0]), CONFIGURED)
    assert recipe == TrialRecipe(learning_rate=5e-5, steps_factor=1.5)
    assert FACTORS["rate"].value(CONFIGURED, 1.0) == pytest.approx(1.5 * RATE)
    for now, other in (("token", "word"), ("word", "token")):
        configured = CONFIGURED.model_copy(update={"unit": now})
        assert [FACTORS["unit"].value(configured, level) for level in (0.0, 0.5, 1.0)] == [now, other, other]


def test_a_trial_carries_its_recipe():
    spec = TrialSpec("plus", 0, Condition(adapt_steps=None))
    recipe = TrialRecipe(learning_rate=4e-5, steps_factor=1.5)
    assert recipe.applied_to(spec, 7) == TrialSpec("plus", 0, Condition(adapt_steps=10), learning_rate=4e-5)
    assert TrialRecipe(rate=0.3).applied_to(spec, 7) == spec, "the rate is in the masks"
    assert TrialRecipe(steps_factor=0.1).applied_to(spec, 2).condition.adapt_steps == 1
    assert recipe.to_json() == {"learning_rate": 4e-5, "steps_factor": 1.5}


@pytest.mark.parametrize(
    ("effect", "curvature", "best"),
    [(1.0, -1.0, 0.5), (-0.4, -1.0, -0.2), (3.0, -1.0, 1.0), (0.1, 1.0, 1.0), (-0.1, 0.0, -1.0), (0.0, 0.0, 0.0)],
)
def test_the_best_level_is_the_maximum_of_the_parabola_within_the_range(effect: float, curvature: float, best: float):
    found = Response(np.array([effect]), np.array([curvature]), np.array([1.0]))
    assert found.best_levels(("steps",)) == pytest.approx([best])
    assert found.best_levels(("unit",))[0] == pytest.approx(max(best, 0.0))


def test_effects_are_those_of_a_joint_regression(monkeypatch: pytest.MonkeyPatch):
    """The normal equations of all columns, with the ridge only on those of the masks."""
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((30, 4)), rng.standard_normal((30, 6))
    y = x @ [1.0, 0.0, -1.0, 0.5] + z @ [2.0, 0.0, 0.0, -1.0, 0.0, 0.0] + 0.1 * rng.standard_normal(30)
    monkeypatch.setattr(regression, "RATIOS", np.array([0.5]))
    rest_x, rest_y = without_factors(z, x, y)
    assert rest_x.shape == (24, 4)
    found = regress(rest_x, rest_y)
    both, penalty = np.hstack([x, z]), np.square(rest_x).sum(axis=1).mean() / 0.5
    gram = both.T @ both + np.diag([penalty] * 4 + [0.0] * 6)
    joint = np.linalg.solve(gram, both.T @ y)
    np.testing.assert_allclose(found.mean, joint[:4], atol=1e-9)
    told = response(z, x, y, found)
    np.testing.assert_allclose([*told.effect, *told.curvature], joint[4:], atol=1e-9)
    variance = found.noise**2 * np.diag(np.linalg.inv(gram))[4:7]  # the posterior of all columns together
    np.testing.assert_allclose(told.half_width, stats.t.ppf(0.975, 24) * np.sqrt(variance))


def test_without_rows_nothing_is_known():
    nothing = np.zeros((0, 3)), np.zeros(0)
    none = response(np.zeros((0, 4)), *nothing, regress(*nothing))
    assert none.best_levels(("rate", "steps")).tolist() == [0.0, 0.0]
    assert none.to_json(("rate", "steps"))[0]["low"] is None


@pytest.mark.parametrize("pause", [3, 8, 10])
def test_it_resumes_in_every_stage(world: World, pause: int):
    settings: dict[str, Any] = {"seed": 2, "budget": 40, "factors": ("learning-rate", "rate")}
    whole, part, resumed = (world.new(**settings) for _ in range(3))
    records = world.play(whole, by_recipe=by_learning_rate)
    before = world.play(part, by_recipe=by_learning_rate, episodes=range(pause))
    resumed.restore(LearnerState(facts=json.loads(json.dumps(part.save().facts))))
    after = world.play(resumed, by_recipe=by_learning_rate, episodes=range(pause, 1000))
    assert before + after == records
    assert json.dumps(resumed.findings()) == json.dumps(whole.findings())
    assert {stage for record in records for stage in [record["stage"]]} == {"explore", "tune", "gate"}


def test_the_log_has_the_recipes(world: World):
    learner = world.new(seed=2, budget=60, factors=("steps",))
    records = world.play(learner, by_recipe=lambda recipe: 3.0 * (recipe.steps_factor or 1.0))
    assert all(record["recipes"] for record in records)
    assert set(records[-1]["recipes"]) == {"policy", "recipe"}
    assert set(records[12]["recipes"]) == {"recipe-0.5", "recipe-1"}
    assert learner.findings()["recipe"] == {"steps_factor": 1.5}
    assert learner.findings()["factors"][0]["is_at_end"]
    players = [len(record["recipes"]) for record in records]
    assert max(players) <= learner.capabilities.max_players
    assert sum(planned_players(learner.settings)) <= 60


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"factors": ("rate", "rate")}, "named twice"),
        ({"factors": ("speed",)}, "learning-rate"),
        ({"factors": ("rate",), "rules": (2.0,)}, "needs the rule 0"),
    ],
)
def test_wrong_factors_are_refused(wrong: dict[str, Any], problem: str):
    with pytest.raises(ValidationError, match=problem):
        ExperimentSettings(**wrong)


def test_factors_without_a_range_are_refused():
    learner = {"factors": ["rate", "steps"]}
    with pytest.raises(ValidationError, match=r"masking rate 1\.05"):
        Config.model_validate({"learner": learner, "masking": {"rate": 0.7}})
    with pytest.raises(ValidationError, match=r"adapt\.epochs is 0"):
        Config.model_validate({"learner": learner, "adapt": {"epochs": 0}})


def test_settings_take_a_recipe():
    config = Config.model_validate({"adapt": {"epochs": 3}, "test": {"adapt_epochs": 1, "rate": 0.1}})
    tuned = config.with_recipe(TrialRecipe(steps_factor=1.2, rate=0.3))
    assert (tuned.adapt.epochs, tuned.test.adapt_epochs) == (4, 1)
    assert (tuned.masking.rate, tuned.test.rate) == (0.3, 0.3)
    assert tuned.adapt.learning_rate == config.adapt.learning_rate
    assert config.with_recipe(TrialRecipe(learning_rate=1e-3)).adapt.learning_rate == 1e-3
    assert config.with_recipe(TrialRecipe(unit="word")).policy.unit == "word"
