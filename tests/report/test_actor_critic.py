"""What the page of a meta-training shows of the actor-critic alone: rewards, credit, its policy, and warnings."""

from math import nan

import numpy as np
import pytest

from nmg.report.learner_parts import summary, warnings
from nmg.report.run_page import run_page
from support.run_logs import UPDATE, episode, log_of

from .helpers import Drawn, blocks_of, tables_of


@pytest.mark.usefixtures("undrawn")
def test_credit_is_counted_over_episodes_and_rewards_weighed_by_actions():
    first = {"alone": {"actions": 30, "reward": 1.0}, "with_both": {"actions": 10, "reward": 0.0}}
    second = {"alone": {"actions": 10, "reward": -1.0}, "with_random": {"actions": 50, "reward": 0.25}}
    (rows,) = tables_of(run_page(log_of(episode(0, credit=first), episode(1, credit=second))), "Rewards and credit")
    assert rows == {
        "learner alone": ("40", "40.0 %", "+0.500"),
        "random too": ("50", "50.0 %", "+0.250"),
        "opponent too": ("0", "0.0 %", "–"),
        "all (dropped)": ("10", "10.0 %", "–"),
    }


def test_in_short_it_says_how_often_the_learner_won():
    """Ties do not count, nor do episodes without the opponent; p by hand: of 4 wins, 2 · (1/2)^4."""
    wins = [episode(i, 0.5, 0.4) for i in range(3)]
    with_opponent = [episode(3, 0.5, 0.4, 0.6), episode(4, 0.4, 0.4, 0.4)]
    assert summary(log_of(*wins, *with_opponent)) == (
        "Against the opponent the learner won 0 episodes, lost 1 and tied in 1 (sign test: p = 1.000). "
        "Against the random player the learner won 4 episodes, lost 0 and tied in 1 (sign test: p = 0.125)."
    )
    assert summary(log_of(episode(0, 0.5, 0.5))).endswith("lost 0 and tied in 1 (sign test: p undefined).")
    assert summary(log_of()) == ""


@pytest.mark.usefixtures("undrawn")
def test_the_policy_in_numbers():
    """First, mean of the last ten, lowest, highest; episodes without an update do not count."""
    entropies = [0.1, 0.3, *[0.2] * 9, 0.05]
    updates = [UPDATE | {"entropy_per_row": value} for value in entropies]
    silent = episode(0)
    del silent["learner_update"]
    episodes = [silent, *(episode(i + 1, learner_update=update) for i, update in enumerate(updates))]
    (rows,) = tables_of(run_page(log_of(*episodes)), "Policy")
    assert rows["entropy (nats per token)"] == ("0.1", "0.185", "0.05", "0.3")
    assert rows["age of stored transitions (episodes)"] == ("0", "3.75", "0", "6")
    assert rows["stored transitions"][-1] == "520"


@pytest.mark.usefixtures("undrawn")
def test_without_an_update_the_page_says_when_they_begin():
    line = episode(0)
    del line["learner_update"]
    (paragraph,) = blocks_of(run_page(log_of(line)), "Policy")
    assert paragraph.text == "No update yet: updates begin when the replay has 500 transitions; it has 40."


def test_every_series_of_a_run_is_drawn(undrawn: Drawn):
    """Against the opponent only where it plays; episodes without an update have a gap."""
    update, rival = UPDATE | {"ratio_mean": 1.1}, UPDATE | {"value_loss": 0.3}
    late = episode(1, 0.5, 0.4, 0.6, learner_update=update, opponent_update=rival, replay_age=0.25)
    run_page(log_of(episode(0, 0.5, 0.4, learner_update=None), late))
    expected = {
        "accuracy × 100 (higher is better)": {"learner": [50, 50], "opponent": [nan, 60], "random": [40, 40]},
        "reward": {"mean of actions": [1, -1], "against opponent": [nan, -1], "against random": [1, 1]},
        "entropy": {"learner": [nan, 0.06], "opponent": [nan, 0.06]},
        "value error": {"learner": [nan, 0.9], "opponent": [nan, 0.3]},
        "importance ratio": {"mean": [nan, 1.1], "max": [nan, 2.5]},
        "replay age (episodes)": {"sampled": [nan, 0.7], "stored": [0, 0.25]},
    }
    assert set(undrawn.curves) == {*expected, "lead of the learner (above 0 is better)"}
    for heading, curves in expected.items():
        assert list(undrawn.curves[heading]) == list(curves)
        for name, values in curves.items():
            np.testing.assert_allclose(undrawn.curves[heading][name], values, err_msg=f"{heading}, {name}")
    credit, seconds = undrawn.bars
    assert {name: values.tolist() for name, values in credit.items() if values.any()} == {
        "learner alone": [90, 90],
        "all (dropped)": [10, 10],
    }
    assert sum(values.sum() for values in seconds.values()) == 140


# --- warnings


def test_a_run_that_goes_well_brings_no_warning():
    assert warnings(log_of(*map(episode, range(30)))) == []
    assert warnings(log_of()) == []


def test_ties_bring_a_warning_while_there_was_nothing_else():
    tie = episode(0, 0.5, 0.5)
    (said,) = warnings(log_of(tie, tie))
    assert "All rewards are 0 so far** (2 episodes)" in said
    assert "--learner.reward difference --reward.metric loss" in said
    assert warnings(log_of(tie, tie, episode(2))) == []


def test_high_importance_ratios_bring_a_warning():
    ratios = [999.0, 1000.0, 1500.0, 2e4, 2.0]
    lines = [episode(i, learner_update=UPDATE | {"ratio_max": ratio}) for i, ratio in enumerate(ratios)]
    (said,) = warnings(log_of(*lines))
    assert "20,000 (episode 4; above 1000 in 2 episodes)" in said
    assert warnings(log_of(*lines[:2])) == []


def test_a_collapsed_entropy_brings_a_warning():
    lines = [
        episode(i, learner_update=UPDATE | {"entropy_per_row": value}) for i, value in enumerate((0.06, 0.05, 0.005))
    ]
    (said,) = warnings(log_of(episode(0, learner_update=None), *lines))
    assert "Its entropy fell from 0.06 to 0.005" in said
    assert warnings(log_of(*lines[:2])) == []
    assert warnings(log_of(*lines, episode(3))) == [], "it has come back"
