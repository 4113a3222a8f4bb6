"""The gate: the policy must beat no adaptation, random masks and the rule; else the best of these is selected."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from nmg.learners.experiment.gate import gate_verdict

N = 20


def episodes(
    seed: int = 0, n: int = N, players: tuple[str, ...] = ("policy", "rule", "random", "none"), **means: float
):
    rng = np.random.default_rng(seed)
    return [{name: means.get(name, 0.0) + float(rng.standard_normal()) for name in players} for _ in range(n)]


def test_each_difference_has_a_one_sided_paired_t_test():
    scores = episodes(policy=1.0, rule=0.3)
    verdict = gate_verdict(scores, 0.05)
    assert verdict.n == N
    assert set(verdict.against) == {"none", "random", "rule"}
    for name, found in verdict.against.items():
        pairs = np.array([[one["policy"], one[name]] for one in scores])
        wanted = stats.ttest_rel(pairs[:, 0], pairs[:, 1], alternative="greater")
        assert found.p == pytest.approx(wanted.pvalue)
        assert found.mean == pytest.approx(np.mean(pairs[:, 0] - pairs[:, 1]))


@pytest.mark.parametrize("equal", ["none", "random", "rule"])
def test_the_policy_must_beat_each_alternative(equal: str):
    """One alternative that is as good as the policy is enough to select that alternative."""
    assert gate_verdict(episodes(policy=3.0), 0.05).selected == "policy"
    verdict = gate_verdict(episodes(policy=3.0, **{equal: 3.3}), 0.05)
    assert not verdict.passes
    assert verdict.selected == equal
    others = [one.p for name, one in verdict.against.items() if name != equal]
    assert all(p is not None and p < 0.05 for p in others)


def test_the_best_alternative_is_selected_even_below_the_policy():
    """The policy is better than all, but not surely."""
    verdict = gate_verdict(episodes(seed=5, policy=0.3, rule=-1.0, none=-1.0), 0.05)
    assert not verdict.passes
    assert verdict.against["random"].mean > 0
    assert verdict.selected == "random"


def test_random_masks_as_the_rule_take_part_once():
    verdict = gate_verdict(episodes(players=("policy", "random", "none"), policy=2.0), 0.05)
    assert set(verdict.against) == {"none", "random"}
    assert verdict.selected == "policy"


@pytest.mark.parametrize("equal", ["none", "random", "rule"])
def test_the_gate_is_wrong_at_its_level(equal: str):
    """The least favourable case: one alternative equals the policy, the others are far behind."""
    passed = [gate_verdict(episodes(seed, 12, policy=9.0, **{equal: 9.0}), 0.05).passes for seed in range(600)]
    assert np.mean(passed) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 600))


@pytest.mark.parametrize("differences", [[1.0], [0.0, 0.0, 0.0], [0.5, 0.5]])
def test_a_gate_that_can_tell_nothing_does_not_pass(differences: list[float]):
    scores = [{"policy": 1.0 + one, "rule": 1.0, "random": 1.0, "none": 1.0} for one in differences]
    verdict = gate_verdict(scores, 0.05)
    assert (verdict.n, verdict.passes, verdict.selected) == (len(differences), False, "none")
    assert [(one.mean, one.p) for one in verdict.against.values()] == [(np.mean(differences), None)] * 3


def test_a_gate_without_episodes_selects_nothing():
    empty: dict[str, Any] = {"n": 0, "level": 0.05, "against": {}, "passes": False}
    verdict = gate_verdict([], 0.05)
    assert verdict.to_json() == empty
    assert verdict.selected is None


WITH_RECIPE = ("policy", "rule", "random", "none", "recipe")


@pytest.mark.parametrize(
    ("means", "selected"),
    [
        ({"policy": 5.0, "recipe": 2.5}, "policy"),  # recipe and masks gain
        ({"policy": 5.0, "recipe": 5.0}, "recipe"),  # the recipe alone gains
        ({"policy": 5.0, "recipe": 0.0}, "policy"),  # the masks alone gain
        ({"policy": 0.0, "recipe": 5.0}, "none"),  # masks that spoil the recipe do not pass
        ({"policy": 5.0, "recipe": 5.0, "rule": 5.0}, "rule"),
    ],
)
def test_a_tuned_recipe_is_told_apart_from_the_masks(means: dict[str, float], selected: str):
    verdict = gate_verdict(episodes(players=WITH_RECIPE, **{"none": 0.5, **means}), 0.05)
    assert verdict.selected == selected
    assert verdict.masks is not None
    assert verdict.recipe is not None
    assert verdict.recipe["random"].mean == pytest.approx(verdict.against["random"].mean - verdict.masks.mean)
    assert {"masks", "recipe"} <= set(verdict.to_json())


@pytest.mark.parametrize("best", ["rule", "none"])
def test_a_recipe_that_gains_nothing_is_selected_at_the_level(best: str):
    """Policy and recipe equal the best alternative: the two chances to pass do not add up."""
    means = {"policy": 9.0, "recipe": 9.0, best: 9.0}
    verdicts = [gate_verdict(episodes(seed, 12, WITH_RECIPE, **means), 0.05) for seed in range(400)]
    wrong = np.mean([one.selected in {"policy", "recipe"} for one in verdicts])
    assert wrong == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 400))
