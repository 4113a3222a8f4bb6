"""Tables: means, deviations and paired tests against numbers worked out by hand and against scipy."""

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from nmg.report.tables import (
    Difference,
    ResultCell,
    markdown_table,
    paired_difference,
    results_table,
    rich_table,
    summarise,
)


def cell(masking: str, seed: int, accuracy: float, loss: float = 0.5, **seconds: float) -> ResultCell:
    scores = {"accuracy": accuracy, "loss": loss}
    return ResultCell(masking, seed, scores, 1.5, lm_steps=10, task_steps=5, masked_tokens=1200, seconds=seconds)


# Seeds out of order and differing in scale: pairing by place or a test of independent samples would go wrong.
CELLS = [
    cell("random", 0, 0.50, 0.9, adapt=1.0, finetune=2.0),
    cell("random", 1, 0.60, 0.8, adapt=2.0, finetune=3.0, total=7.0),
    cell("random", 2, 0.70, 0.7),
    cell("neural", 2, 0.73, 0.6),
    cell("neural", 0, 0.51, 0.8),
    cell("neural", 1, 0.62, 0.7),
    cell("lonely", 7, 0.40),
]


def rows_by_name():
    return {row.masking: row for row in summarise(CELLS, ["accuracy", "loss"])}


def test_means_deviations_and_costs_by_hand():
    row = rows_by_name()["random"]
    assert row.n_seeds == 3
    assert row.mean["accuracy"] == pytest.approx(0.6)
    assert row.deviation["accuracy"] == pytest.approx(0.1)
    assert row.seconds == pytest.approx((3.0 + 7.0 + 0.0) / 3)
    assert row.masked_tokens == 1200
    assert row.difference == {"accuracy": None, "loss": None}


def test_paired_difference_by_hand():
    difference = rows_by_name()["neural"].difference["accuracy"]
    # differences .01, .02, .03: mean .02, deviation .01, error .01/√3, t(.975, 2) = 4.302653
    assert difference.n == 3
    assert difference.mean == pytest.approx(0.02)
    assert difference.low == pytest.approx(0.02 - 4.302653 * 0.01 / 3**0.5, abs=1e-8)
    assert difference.high == pytest.approx(0.02 + 4.302653 * 0.01 / 3**0.5, abs=1e-8)
    assert difference.p_value == pytest.approx(0.0741799, abs=1e-6)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_paired_difference_agrees_with_scipy(n):
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(0.7, 0.1, n), rng.normal(0.65, 0.1, n)
    difference = paired_difference(ours - theirs)
    reference = stats.ttest_rel(ours, theirs)
    interval = reference.confidence_interval(0.95)
    assert difference.p_value == pytest.approx(reference.pvalue)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))


def test_too_little_to_test():
    assert paired_difference(np.array([0.1])) == Difference(0.1, 1)
    assert paired_difference(np.array([0.0, 0.0])) == Difference(0.0, 2)
    assert paired_difference(np.array([0.3 - 0.2, 0.2 - 0.1, 0.1])).p_value is None
    lonely = rows_by_name()["lonely"]
    assert lonely.deviation["accuracy"] is None
    assert lonely.difference["accuracy"] is None


def test_seeds_without_a_pair_are_left_out():
    row = {row.masking: row for row in summarise([*CELLS, cell("neural", 9, 0.1)], ["accuracy"])}["neural"]
    assert row.n_seeds == 4
    assert row.difference["accuracy"].n == 3
    assert row.difference["accuracy"].mean == pytest.approx(0.02)


def test_another_baseline():
    rows = {row.masking: row for row in summarise(CELLS, ["accuracy"], baseline="neural")}
    assert rows["random"].difference["accuracy"].mean == pytest.approx(-0.02)
    assert rows["neural"].difference["accuracy"] is None


def test_two_results_for_one_seed_are_refused():
    with pytest.raises(ValueError, match="two results for seed 0"):
        summarise([CELLS[0], CELLS[0]], ["accuracy"])


def test_markdown():
    metrics = ["accuracy", "loss"]
    lines = markdown_table(summarise(CELLS, metrics), metrics).splitlines()
    assert lines[0] == ("| masking | accuracy | Δ random [95 %] | p | loss | masked tokens | time |")
    assert lines[2] == "| random | 60.0 ± 10.0 | – | – | 0.800 ± 0.100 | 1,200 | 3.3 s |"
    assert lines[3] == ("| neural | 62.0 ± 11.0 | +2.0 [−0.5, +4.5] | 0.074 | 0.700 ± 0.100 | 1,200 | 0.0 s |")
    assert lines[4] == "| lonely | 40.0 | – | – | 0.500 | 1,200 | 0.0 s |"
    # All differences of the loss are −0.1: no spread, so neither an interval nor a p value.
    by_loss = markdown_table(summarise(CELLS, ["loss"]), ["loss"]).splitlines()
    assert by_loss[3] == "| neural | 0.700 ± 0.100 | −0.100 | – | 1,200 | 0.0 s |"
    assert "n = 1–3 seeds" in lines[6]
    assert "'random'" in lines[7]
    assert len({line.count("|") for line in lines[:5]}) == 1


def test_markdown_escapes_a_bar():
    metrics = ["accuracy"]
    assert "| a\\|b |" in markdown_table(summarise([cell("a|b", 0, 0.5)], metrics), metrics)


def test_terminal_shows_the_same_cells():
    metrics = ["accuracy", "loss"]
    rows = summarise(CELLS, metrics)
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(rich_table(rows, metrics, "Results"))
    text = capture.get()
    assert "Results" in text
    assert all(entry in text for row in results_table(rows, metrics).rows for entry in row)


def test_no_results_make_an_empty_table():
    assert results_table([], ["accuracy"]).rows == ()
    assert markdown_table([], ["accuracy"]).count("\n| ") == 1
