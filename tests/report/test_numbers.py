"""Numbers as text, the same wherever they are shown."""

import pytest

from nmg.base.numerals import duration_text
from nmg.report.numbers import (
    all_of,
    count_text,
    difference_text,
    interval_text,
    mean_text,
    number_text,
    p_text,
    score_text,
    signed_text,
)


def test_scores_are_percent_and_losses_as_they_are():
    assert score_text(0.6, "accuracy") == "60.0"
    assert score_text(0.8, "loss") == "0.800"
    assert score_text(4.25, "held_out_loss") == "4.250"
    assert score_text(-0.0149, "accuracy") == "−1.5"
    assert score_text(0.02, "accuracy", "+") == "+2.0"


def test_the_same_score_is_rounded_the_same_way_everywhere():
    """Means of the same numbers differ in their last bits."""
    mean = sum([0.0125, 0.0124, 0.0126]) / 3
    assert score_text(mean, "accuracy", "+") == score_text(0.0125, "accuracy", "+") == "+1.3"
    assert score_text(0.01249999999999999, "accuracy") == score_text(0.01250000000000001, "accuracy") == "1.3"
    assert score_text(-0.0125, "accuracy") == "−1.3"
    assert score_text(0.6125, "accuracy") == "61.3"
    assert score_text(0.0005, "loss") == "0.001"
    assert score_text(float("nan"), "accuracy") == "nan"


def test_one_of_a_kind_is_not_all_of_them():
    assert [all_of(text) for text in ("1 test", "2 tests", "11 tests")] == [
        "the one test",
        "all 2 tests",
        "all 11 tests",
    ]


def test_means_and_differences():
    assert mean_text(0.6, 0.1, "accuracy") == "60.0 ± 10.0"
    assert mean_text(0.8, 0.1, "loss") == "0.800 ± 0.100"
    assert mean_text(0.4, None, "accuracy") == "40.0"
    assert difference_text(0.02, -0.0048, 0.0448, "accuracy") == "+2.0 [−0.5, +4.5]"
    assert difference_text(-0.1, None, None, "loss") == "−0.100"
    assert interval_text(0.352, 0.848, "accuracy") == "[35.2, 84.8]"
    assert interval_text(None, None, "accuracy") == "–"


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(None, "–"), (0.0741799, "0.074"), (0.001, "0.001"), (0.00099, "< 0.001"), (1.0, "1.000")],
)
def test_p_values(p_value: float | None, text: str):
    assert p_text(p_value) == text


def test_times():
    assert [duration_text(seconds) for seconds in (0.0, 3.33, 99.9, 120.0, 5999.0, 7200.0)] == [
        *("0.0 s", "3.3 s", "99.9 s", "2.0 min", "100.0 min", "2.0 h"),
    ]


def test_numbers_counts_and_rewards():
    assert [number_text(value) for value in (1234.5, 0.012345, -0.5, 3.0)] == [
        *("1,234", "0.0123", "−0.5", "3"),
    ]
    assert [signed_text(reward) for reward in (0.25, -0.25, 0.0, -0.0001)] == ["+0.250", "−0.250", "0.000", "0.000"]
    assert [count_text(n, "episode") for n in (0, 1, 2)] == ["0 episodes", "1 episode", "2 episodes"]
