"""The stages of an experiment: what each may cost, when it ends, and what is handed out."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from nmg.learners.experiment.regression import Effects, gain_limit, regress
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.experiment.stages import ExperimentState, _contrasts, learned_name, rule_name

N_FEATURES = 3
UNCLEAR = Effects(np.array([0.3, 0.0, 0.4]), 1e-4 * np.eye(N_FEATURES), 1.0, 10, 1.0, 0.4)
Score = Callable[[str, np.random.Generator], float]
"""name of a player → its score"""


def chance(_player: str, rng: np.random.Generator) -> float:
    return float(rng.standard_normal())


def players_of(state: ExperimentState) -> list[str]:
    """As the learner has them."""
    return {
        "explore": ["plus", "minus"],
        "tune": [*map(rule_name, state.settings.rules), *map(learned_name, state.strengths_to_try())],
        "gate": list(state.gate_players),
    }[state.stage]


def features_of(names: list[str], rng: np.random.Generator) -> dict[str, Any]:
    return {name: None if name == "none" else rng.standard_normal(N_FEATURES) for name in names}


def run(state: ExperimentState, effects: Effects = UNCLEAR, score: Score = chance, seed: int = 0) -> list[str]:
    """Play on until the state is done; the stage of each episode."""
    rng, stages = np.random.default_rng(seed), []
    while state.stage != "done":
        stages.append(state.stage)
        names = players_of(state)
        features = features_of(names, rng)
        state.record(state.stage, {name: score(name, rng) for name in names}, features)
        state.advance(effects, rng)
    return stages


def new_book(n_features: int = N_FEATURES, **settings: Any) -> ExperimentState:
    return ExperimentState.new(ExperimentSettings(**settings), n_features)


def test_plays_are_spent_and_no_more():
    """Two fifths to explore, a fifth to tune, the rest for the gate, whatever their number."""
    for plays in [*range(20, 60), *range(60, 401, 23)]:
        state = new_book(budget=plays)
        stages = run(state)
        assert stages == sorted(stages, key=["explore", "tune", "gate"].index)
        counted = {stage: stages.count(stage) for stage in ("explore", "tune", "gate")}
        players = {"explore": 2, "tune": 7, "gate": 4 if state.rule else 3}
        spent = {stage: counted[stage] * players[stage] for stage in counted}
        assert state.trials == sum(spent.values())
        assert plays - players["gate"] < state.trials <= plays
        assert 0.4 * plays - 2 < spent["explore"] <= 0.4 * plays
        assert spent["tune"] <= max(plays / 5, 7)
        assert counted["gate"] >= 1
        rows = counted["explore"] + 6 * counted["tune"] + (players["gate"] - 2) * counted["gate"]
        assert len(state.x) == len(state.y) == rows
        assert state.n_explored == counted["explore"]


@pytest.mark.parametrize("score", [chance, lambda name, _rng: float(name == "idf-5")], ids=["random", "idf-5"])
def test_the_total_of_episodes_never_grows_and_is_exact_in_the_gate(score: Score):
    """By hand, of 100 trials: 20 pairs, 2 episodes of 7 to tune, and 46 trials for gates of 3 or 4 players."""
    state, totals = new_book(budget=100), []

    def seen(name: str, rng: np.random.Generator) -> float:
        totals.append((state.stage, state.max_episodes))
        return score(name, rng)

    n = len(run(state, score=seen))
    assert totals[0] == ("explore", 20 + 2 + 46 // 3)
    assert [total for _, total in totals] == sorted((total for _, total in totals), reverse=True)
    assert {total for stage, total in totals if stage == "gate"} == {n} == {22 + 46 // (4 if state.rule else 3)}
    assert state.max_episodes == n == state.episodes


@pytest.mark.parametrize(
    "many",
    [
        {"rules": (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0), "strengths": (1.0, 2.0, 3.0)},
        {"rules": (5.0,), "strengths": (1.0,)},
        {"rules": (3.0, 5.0), "strengths": (1.0, 2.0)},
    ],
)
def test_players_of_another_number_spend_no_more_either(many: dict[str, Any]):
    """Where random is no rule, too; and where nothing is left for the gate, the rule is selected."""
    for plays in range(20, 120, 9):
        state = new_book(budget=plays, **many)
        stages = run(state)
        assert state.trials <= plays
        assert "gate" in stages or state.selected == ("rule" if state.rule else "random")
        assert state.rule in many["rules"]
        assert state.strength in many["strengths"]


def test_exploration_ends_early_where_the_answer_is_clear():
    """It is looked at after min_pairs pairs more than features, then after every ten."""
    clear = replace(UNCLEAR, f_p=1e-4)
    state = new_book(budget=400, min_pairs=5)
    assert run(state, clear).count("explore") == N_FEATURES + 5
    assert 397 <= state.trials <= 400, "what is left goes to the gate"
    state = new_book(budget=400, min_pairs=5, early_stop_alpha=1e-5)
    assert run(state, clear).count("explore") == 80

    state, rng = new_book(budget=400, min_pairs=5), np.random.default_rng(0)
    looks = [2, 8, 9, 17, 18]
    for n in range(1, 19):
        features = {name: rng.standard_normal(N_FEATURES) for name in ("plus", "minus")}
        state.record("explore", {"plus": chance("", rng), "minus": 0.0}, features)
        state.possible_gain = None
        state.advance(UNCLEAR, rng)
        if n in looks:
            assert (state.possible_gain is not None) == (n in (8, 18)), n
    assert state.stage == "explore"


def test_what_no_masking_can_gain_is_not_looked_for():
    """Only the rules are played then, and one of them is handed out."""
    settings = {"budget": 400, "min_pairs": 5, "min_effect": 2.0}
    state = new_book(**settings)
    stages = run(state, score=lambda name, rng: {"idf-5": 1.0}.get(name, 0.0) + 0.2 * chance(name, rng))
    assert (stages.count("explore"), stages.count("tune"), stages.count("gate")) == (8, 20, 0)
    assert state.is_futile
    assert state.possible_gain is not None
    assert 0.2 < state.possible_gain < 2.0
    assert set(state.tune_scores[0]) == {"random", "idf-2", "idf-5", "idf-10"}
    assert (state.selected, state.strength, state.rule) == ("rule", 0.0, 5.0)

    hopeful = new_book(**settings | {"min_effect": 0.01})
    assert "gate" in run(hopeful)
    assert not hopeful.is_futile
    careless = new_book(budget=400)
    run(careless, score=lambda _name, _rng: 0.5)
    assert (careless.possible_gain, careless.is_futile) == (0.0, False), "by default every gain counts"


def test_the_possible_gain_is_the_limit_of_all_looks_together():
    """500 plays are 100 pairs: looks after 8, 18, … 98 pairs and at the end; 20 plays are one look."""
    for plays, looks in ((500, 11), (20, 1), (40, 1), (45, 2)):
        state, rng = new_book(budget=plays), np.random.default_rng(0)
        while state.possible_gain is None and state.stage == "explore":
            features = {name: rng.standard_normal(N_FEATURES) for name in ("plus", "minus")}
            state.record("explore", {"plus": chance("", rng), "minus": 0.0}, features)
            state.advance(UNCLEAR, np.random.default_rng(9))
        wanted = gain_limit(*state.rows(), 1 - 0.05 / looks, np.random.default_rng(9))
        assert state.possible_gain == wanted, plays


def test_the_best_strength_and_the_best_rule_go_to_the_gate():
    means = {"learned-2": 0.9, "learned-1": 0.5, "learned-4": 0.7, "idf-2": 0.4, "random": 0.1}
    state = new_book(budget=100)
    run(state, score=lambda name, rng: means.get(name, 0.0) + 1e-3 * chance(name, rng))
    assert (state.strength, state.rule) == (2.0, 2.0)
    assert state.tuned()["learned-2"] == pytest.approx(0.8, abs=0.01)
    assert state.tuned()["random"] == 0
    assert new_book().tuned() == {}


@pytest.mark.parametrize(("better", "passes"), [(2.0, True), (0.0, False), (-1.0, False)])
def test_the_gate_selects_only_a_policy_that_is_better(better: float, passes: bool):
    score = {"policy": better}
    state = new_book(budget=200)
    stages = run(state, score=lambda name, rng: score.get(name, 0.0) + chance(name, rng), seed=1)
    assert stages.count("gate") == len(state.gate_scores) >= 20
    assert (state.selected == "policy") is passes


def test_rows_are_contrasts_of_the_players():
    """Of two, their difference; of more, as many as are independent, each with the noise of a difference."""
    assert _contrasts(2).tolist() == [[1.0, -1.0]]
    assert _contrasts(1).shape == (0, 1)
    np.testing.assert_allclose(_contrasts(3)[1], np.sqrt(4 / 3) * np.array([0.5, 0.5, -1]))
    for n in (2, 3, 7):
        contrasts = _contrasts(n)
        np.testing.assert_allclose(contrasts @ contrasts.T, 2 * np.eye(n - 1), atol=1e-12)
        np.testing.assert_allclose(contrasts @ np.ones(n), 0, atol=1e-12)

    state, rng = new_book(budget=40), np.random.default_rng(1)
    effects = np.array([1.0, -2.0, 0.5])
    for stage, names in (("explore", ["plus", "minus"]), ("tune", ["random", "idf-2", "learned-1"])):
        features = {name: rng.standard_normal(3) for name in names}
        state.record(stage, {name: 7.0 + float(effects @ features[name]) for name in names}, features)
    x, y = state.rows()
    assert x.shape == (3, 3)
    np.testing.assert_allclose(x @ effects, y, atol=1e-12)
    assert state.y[0] == pytest.approx(state.y[0])
    assert (state.trials, state.n_explored) == (5, 1)


def test_rows_of_many_players_do_not_pass_for_more_than_they_are():
    """Chance alone, 14 episodes of 7 players along two directions: differences from one of them reject 15 %."""
    rng, p_values = np.random.default_rng(0), []
    along = np.zeros((7, 15))
    along[1:4, 0], along[4:, 1] = (0.6, 1.0, 1.3), (0.5, 0.8, 1.1)
    for _ in range(300):
        state = new_book(15)
        for _ in range(14):
            names = [f"p{n}" for n in range(7)]
            features = dict(zip(names, along + 0.05 * rng.standard_normal((7, 15)), strict=True))
            state.record("tune", dict(zip(names, rng.standard_normal(7).tolist(), strict=True)), features)
        p_values.append(regress(*state.rows()).f_p)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 300))


def test_a_book_survives_json():
    """Every float to the bit, and no NaN, at every moment of a run; what follows is the same."""
    state, rng = new_book(budget=60, min_pairs=1), np.random.default_rng(3)
    while state.stage != "done":
        text = json.dumps(state.to_json(), allow_nan=False)
        again = ExperimentState.from_json(state.settings, json.loads(text))
        assert again == state
        assert json.dumps(again.to_json()) == text
        names = players_of(state)
        features = features_of(names, rng)
        scores = {name: chance(name, rng) for name in names}
        for one in (state, again):
            one.record(one.stage, scores, features)
            one.advance(regress(*one.rows()), np.random.default_rng(7))
        assert again == state
    assert ExperimentState.from_json(state.settings, json.loads(json.dumps(state.to_json(), allow_nan=False))) == state


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("always", [False, True])
def test_training_that_diverges_is_counted_and_not_believed(broken: float, always: bool):
    def score(name: str, rng: np.random.Generator) -> float:
        drawn = chance(name, rng)
        return broken if always or (name in {"plus", "learned-4", "policy"} and drawn > 0.5) else drawn

    state = new_book(budget=100)
    stages = run(state, score=score)
    assert state.trials <= 100
    assert {"explore", "tune"} <= set(stages)
    assert bool(state.gate_scores) is not always
    json.dumps(state.to_json(), allow_nan=False)
    assert np.isfinite(state.rows()[0]).all()
    assert np.isfinite(state.rows()[1]).all()
    assert bool(state.y) is not always
    if always:
        assert state.selected in {"rule", "random"}


def test_names_of_players():
    assert [rule_name(exponent) for exponent in (0.0, 2.0, 0.5)] == ["random", "idf-2", "idf-0.5"]
    assert [learned_name(strength) for strength in (1.0, 2.5)] == ["learned-1", "learned-2.5"]


@pytest.mark.parametrize("wrong", [{"budget": 19}, {"rules": ()}, {"strengths": ()}, {"strengths": (0.0,)}])
def test_settings_that_leave_nothing_to_compare_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        ExperimentSettings(**wrong)
