"""The plan of the minutes, by hand."""

import pytest

from auto.helpers import COSTS, audited
from nmg.auto.plan import (
    Costs,
    affordable_plays,
    affordable_seeds,
    audit_seconds,
    comparison_seconds,
    episode_size,
    fitted_budget,
    learning_seconds,
    loop_share,
    too_few_plays,
)


def test_an_hour_by_hand():
    """A seed takes (2 + 2 × 5) / 2 = 6 s, the comparison of 10 seeds 30 + 60 = 90 s, the end 30 + 3 + 30 = 63 s."""
    assert audit_seconds(3600) == 1200
    assert (COSTS.seed, COSTS.comparison(10), COSTS.final) == (6, 90, 63)
    assert learning_seconds(2700, COSTS) == 2700 - 90 - 63
    assert comparison_seconds(400, COSTS) == 337
    assert affordable_plays(2547, COSTS, 1) == (2547 - 30) * 2 // 4
    assert COSTS.learning(1258, 1) == 30 + 1258 * 4 / 2


@pytest.mark.parametrize(
    ("left", "learning"),
    [(300, 300 - 90 - 63), (100, 0)],
)
def test_learning_leaves_time_for_a_comparison(left: float, learning: float):
    assert learning_seconds(left, COSTS) == learning


@pytest.mark.parametrize(("seconds", "seeds"), [(0, 6), (30 + 48, 8), (30 + 53, 8), (10_000, 16)])
def test_seeds_by_hand(seconds: float, seeds: int):
    assert affordable_seeds(seconds, COSTS) == seeds


def test_nothing_is_left_for_the_comparison_of_a_late_run():
    assert comparison_seconds(10, COSTS) == 0
    assert affordable_plays(10, COSTS, 1) == 0
    assert affordable_plays(1000, Costs(2, 5, 3, play=0, processes=2), 1) == 0


def test_inner_loops_are_shorter_if_too_few_fit():
    """66 loops of 4 s, 3 s of them adaptation, take 132 s on 2 processes; with 2.5 s, half of the steps, 82.5 s."""
    assert [loop_share(30 + seconds, COSTS) for seconds in (200, 132, 82.5, 10)] == pytest.approx([1, 1, 0.5, 0.5])
    assert loop_share(30 + 99, COSTS) == pytest.approx(2 / 3), "3 s each: 1 s besides adaptation, 2 of its 3 s"
    assert (COSTS.loop(1), COSTS.loop(0.5)) == (4, 2.5)
    assert affordable_plays(30 + 82.5, COSTS, 0.5) == 66
    assert affordable_plays(30 + 82.5, COSTS, 1) == 41


def test_the_budget_is_fitted_to_the_forecast():
    """200 inner loops in 1020 s, 20 s of them before the first: 5 s each."""
    assert fitted_budget(520, 200, 1020, 20) == 100
    assert fitted_budget(5000, 200, 1020, 20) == 200
    assert fitted_budget(10, 200, 1020, 20) == 0


def test_too_few_inner_loops_are_a_reason():
    assert too_few_plays(60) is None
    assert too_few_plays(59) == "The time allows 59 of at least 60 inner loops. Raise --minutes to learn masks."


@pytest.mark.parametrize(
    ("contexts", "per_step", "size"),
    [
        (4000, 32, {"epochs": 1, "contexts": 2240}),
        (1000, 32, {"epochs": 3, "contexts": 747}),
        (1000, 16, {"epochs": 2, "contexts": 560}),
        (3, 32, {"epochs": 747, "contexts": 3}),
    ],
)
def test_episodes_take_as_many_steps_as_trials(contexts: int, per_step: float, size: dict[str, int]):
    assert episode_size(70, per_step, contexts) == size


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"is_sound": True, "possible_gain": None}, None),
        ({"pays": False}, None),  # learned masks may gain 3 points, and random masks lose one
        ({"reward": None}, "No reward that agrees with accuracy distinguishes the maskings."),
        (
            {"possible_gain": 0.0149},
            "A learned policy can gain at most 1.5 points (95 % confidence) over random masks, which lose 1.0 points.",
        ),
        (
            {"possible_gain": 0.0049, "gain": 0.02},
            "A learned policy can gain at most 0.5 points (95 % confidence) over random masks.",
        ),
        ({"possible_gain": 0.0051, "gain": 0.02}, None),
    ],
)
def test_room_for_learned_masks(changes: dict[str, object], reason: str | None):
    assert audited(**changes).why_not_learn() == reason
