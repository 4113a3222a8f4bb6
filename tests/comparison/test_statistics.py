"""Statistics against numbers worked out by hand, against scipy and statsmodels, and against simulated truth."""

import math
import warnings
from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from nmg.base.types import FloatArray
from nmg.comparison.statistics import (
    Estimate,
    PairedTest,
    crossed_interval,
    estimate,
    holm,
    paired_comparison,
    seeds_needed,
    t_p_value,
    wilcoxon_p_value,
)


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def array(*values: float) -> FloatArray:
    return np.array(values, dtype=float)


def compare(*differences: float) -> PairedTest:
    return paired_comparison(array(*differences), np.zeros(len(differences)))


def test_a_mean_with_its_interval_by_hand():
    # mean 4, deviation √((9 + 1 + 1 + 9) / 3), t(.975, 3) = 3.182446
    result = estimate(array(1, 3, 5, 7))
    deviation = math.sqrt(20 / 3)
    assert (result.n, result.mean) == (4, 4.0)
    assert result.deviation == pytest.approx(deviation)
    assert result.low == pytest.approx(4 - 3.182446 * deviation / 2, abs=1e-6)
    assert result.high == pytest.approx(4 + 3.182446 * deviation / 2, abs=1e-6)


def test_an_interval_over_seeds_and_texts_is_that_of_every_resample():
    """All 16 resamples of two seeds and two texts; their variance lacks the factor n / (n − 1) = 2."""
    table = array(1, 0, 3, 2).reshape(2, 2)
    means = [
        table[np.ix_(seeds, texts)].mean() for seeds in product((0, 1), repeat=2) for texts in product((0, 1), repeat=2)
    ]
    reach = 12.706205 * math.sqrt(2 * np.var(means))  # t(.975, 1)
    assert crossed_interval(table) == pytest.approx((1.5 - reach, 1.5 + reach), abs=1e-5)
    assert reach == pytest.approx(12.706205 * math.sqrt(1 + 1 / 4), abs=1e-5)


def test_an_interval_over_seeds_and_texts_by_loops():
    table = np.random.default_rng(0).normal(0.3, 1, (4, 7))
    mean, squares = sum(map(sum, table)) / 28, 0.0
    for lines in (table.tolist(), table.T.tolist()):
        means = [sum(line) / len(line) for line in lines]
        variance = sum((one - mean) ** 2 for one in means) / (len(means) - 1)
        squares += stats.t.ppf(0.975, len(means) - 1) ** 2 * variance / len(means)
    found = crossed_interval(table)
    assert found == pytest.approx((mean - math.sqrt(squares), mean + math.sqrt(squares)))
    over_seeds = estimate(table.mean(axis=1))
    assert found is not None
    assert over_seeds.low is not None
    assert found[0] < over_seeds.low


def test_one_seed_or_one_text_says_nothing_about_others():
    assert crossed_interval(np.ones((1, 9))) is None
    assert crossed_interval(np.ones((9, 1))) is None
    assert crossed_interval(np.zeros((3, 9))) == (0, 0)
    constant = np.tile(array(0, 1), (3, 1))  # only texts vary: mean .5, deviation √.5, over √2
    assert crossed_interval(constant) == pytest.approx((0.5 - 12.706205 / 2, 0.5 + 12.706205 / 2), abs=1e-5)


def test_a_paired_comparison_by_hand():
    # Differences .01, .02, .03, −.01, .02: mean .014, deviation √(.00092 / 4). Sizes rank 1.5, 3.5, 5, 1.5, 3.5; the
    # negative one has 1.5. Of 32 signs, sums ≤ 1.5 are {}, {1.5}, {1.5'}: p = 2 · 3 / 32.
    test = compare(0.01, 0.02, 0.03, -0.01, 0.02)
    deviation = math.sqrt(0.00092 / 4)
    t = 0.014 / (deviation / math.sqrt(5))
    assert (test.n, test.wins, test.ties, test.losses) == (5, 4, 0, 1)
    assert test.mean == pytest.approx(0.014)
    assert test.low == pytest.approx(0.014 - 2.776445 * deviation / math.sqrt(5), abs=1e-8)
    assert test.high == pytest.approx(0.014 + 2.776445 * deviation / math.sqrt(5), abs=1e-8)
    assert test.effect_size == pytest.approx(0.014 / deviation)
    assert test.t_p == pytest.approx(0.108, abs=5e-4), f"t = {t:.3f} with 4 degrees of freedom"
    assert test.wilcoxon_p == pytest.approx(6 / 32)
    assert test.seeds_needed == 12
    assert test.seeds_still_needed == 7


@pytest.mark.parametrize("n", [2, 3, 8, 25])
def test_it_agrees_with_scipy(n: int):
    rng = np.random.default_rng(n)
    for _ in range(20):
        first, second = rng.normal(0.7, 0.1, n), rng.normal(0.65, 0.1, n)
        test = paired_comparison(first, second)
        t_test = stats.ttest_rel(first, second)
        interval = t_test.confidence_interval(0.95)
        assert test.t_p == pytest.approx(t_test.pvalue, rel=1e-9)
        assert (test.low, test.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
        assert test.wilcoxon_p == pytest.approx(stats.wilcoxon(first, second, method="exact").pvalue, rel=1e-9)


def all_signs(differences: FloatArray) -> float:
    """The signed-rank test by listing every assignment of signs."""
    differences = differences[differences != 0]
    ranks = stats.rankdata(np.abs(differences))
    middle = ranks.sum() / 2
    sums = [
        sum(rank for rank, is_positive in zip(ranks, signs, strict=True) if is_positive)
        for signs in product((False, True), repeat=len(ranks))
    ]
    observed = ranks[differences > 0].sum()
    return float(np.mean([abs(value - middle) >= abs(observed - middle) - 1e-9 for value in sums]))


def test_wilcoxon_is_exact_with_ties_and_zeros():
    rng = np.random.default_rng(0)
    for n in (3, 6, 9):
        for _ in range(20):
            differences = rng.integers(-3, 4, n) / 20
            if np.count_nonzero(differences):
                assert wilcoxon_p_value(differences) == pytest.approx(all_signs(differences))
    assert wilcoxon_p_value(array(0.1, 0.0, 0.2, 0.0, 0.3)) == pytest.approx(2 / 8), "zeros are left out"


def test_rounding_errors_are_ties_and_zeros():
    differences = array(0.3 - 0.2, 0.2 - 0.1, 0.1, -0.3 + 0.2, 0.1 + 0.2 - 0.3)
    assert len(set(np.abs(differences))) > 2, "they differ in the last bits"
    test = compare(*differences)
    assert (test.wins, test.ties, test.losses) == (3, 1, 1)
    # Three against one of the same size: 5 of 16 signs have at most one negative; two-sided 10 of 16.
    assert wilcoxon_p_value(differences) == pytest.approx(10 / 16)


@pytest.mark.parametrize("n", [60, 200])
def test_wilcoxon_of_many_is_near_the_normal_approximation(n: int):
    differences = np.random.default_rng(n).normal(0.15, 1, n)
    approximate = stats.wilcoxon(differences, method="approx").pvalue
    assert wilcoxon_p_value(differences) == pytest.approx(approximate, abs=0.005)


@pytest.mark.parametrize("differences", [(0.1,), (0.0,)])
def test_one_seed_tests_nothing(differences: tuple[float, ...]):
    test = compare(*differences)
    assert test.mean == pytest.approx(differences[0])
    undefined = (test.low, test.high, test.t_p, test.wilcoxon_p, test.effect_size, test.seeds_needed)
    assert undefined == (None,) * 6
    assert test.seeds_still_needed is None
    assert estimate(array(0.7)).deviation is None


def test_equal_differences_have_no_spread():
    for test in (compare(0.0, 0.0, 0.0), compare(0.1, 0.1, 0.1), compare(0.3 - 0.2, 0.2 - 0.1, 0.1)):
        assert (test.low, test.high, test.effect_size, test.seeds_needed) == (None,) * 4
    nothing, same = compare(0.0, 0.1 + 0.2 - 0.3, 0.0), compare(0.1, 0.1, 0.1)
    assert (nothing.t_p, nothing.wilcoxon_p, nothing.p, nothing.is_constant) == (1.0, 1.0, 1.0, False)
    assert nothing.ties == 3
    assert (same.t_p, same.is_constant, same.reversed_.is_constant) == (None, True, True)
    assert same.wilcoxon_p == same.p == pytest.approx(2 / 8), "signs are all that this test needs"
    assert compare(0.1).p is None
    spread = estimate(array(0.4, 0.4))
    assert (spread.deviation, spread.low, spread.high) == (0.0, None, None)


def test_differences_that_cancel_out():
    test = compare(0.25, -0.25)
    assert (test.mean, test.effect_size, test.t_p, test.wilcoxon_p) == (0.0, 0.0, 1.0, 1.0)
    assert test.seeds_needed is None


@pytest.mark.parametrize("effect", [0.05, 0.2, 0.5, 0.8, 1.3, 2.0])
def test_seeds_needed_agree_with_statsmodels(effect: float):
    solved = TTestPower().solve_power(effect_size=effect, power=0.8, alpha=0.05)
    assert seeds_needed(effect) == seeds_needed(-effect) == math.ceil(solved)


@pytest.mark.parametrize("effect", [0.3, 0.7, 1.0, 3.0, 6.0])
def test_seeds_needed_are_the_fewest_that_reach_the_power(effect: float):
    """Power from scipy's noncentral t."""

    def power(n: int) -> float:
        critical, shift = stats.t.ppf(0.975, n - 1), effect * math.sqrt(n)
        return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))

    n = seeds_needed(effect)
    assert n is not None
    assert power(n) >= 0.8 or math.isnan(power(n))
    assert n == 2 or power(n - 1) < 0.8


def test_effects_at_the_ends():
    assert seeds_needed(0.0) is None
    assert seeds_needed(1e-6) is None
    assert seeds_needed(1e-17) is None
    assert seeds_needed(1e9) == 2
    assert seeds_needed(10.0) == 3, "two seeds have a power of 73 %"
    strong = compare(0.1, 0.1001, 0.0999, 0.1, 0.1, 0.1001)
    assert strong.seeds_still_needed == 0


def test_holm_by_hand():
    # In order: .01 · 4, .02 · 3, .03 · 2, .5 · 1, each at least the one before.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    # Of three tests, one without a p value: .02 · 3, .04 · 2.
    assert holm([0.02, None, 0.04]) == [pytest.approx(0.06), None, pytest.approx(0.08)], "it counts all the same"
    assert holm([0.02, 0.04], n_planned=5) == [pytest.approx(0.1), pytest.approx(0.16)]
    assert holm([]) == []
    assert holm([None]) == [None]


def test_holm_agrees_with_statsmodels():
    p_values = np.random.default_rng(0).uniform(size=12) ** 3
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def simulated(n_comparisons: int, n_maskings: int, n_seeds: int, effect: float) -> Iterator[FloatArray]:
    """Scores [n_maskings, n_seeds] with a seed's own level, the last masking better by `effect` deviations."""
    rng = np.random.default_rng(7)
    for _ in range(n_comparisons):
        level = rng.normal(0.6, 0.05, n_seeds)
        scores = level + rng.normal(0, 0.01, (n_maskings, n_seeds))
        scores[-1] += effect * 0.01
        yield scores


def test_under_a_null_the_corrected_tests_keep_their_level(monkeypatch: pytest.MonkeyPatch):
    """Chance of any false difference among the 6 pairs of 4 maskings: at most 5 %, which single tests exceed by far."""
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects at every call, which takes minutes here
    single = corrected = ranked = 0
    n_comparisons = 1000
    for scores in simulated(n_comparisons, 4, 10, effect=0.0):
        differences = [first - second for first, second in combinations(scores, 2)]
        p_values = [t_p_value(difference) for difference in differences]
        ranks = [wilcoxon_p_value(difference) for difference in differences]
        single += min(p or 1.0 for p in p_values) < 0.05
        corrected += min(p or 1.0 for p in holm(p_values)) < 0.05
        ranked += min(p or 1.0 for p in holm(ranks)) < 0.05
    bound = stats.binom.ppf(0.999, n_comparisons, 0.05)
    assert corrected <= bound
    assert ranked <= bound
    assert single > 2 * bound
    assert corrected > 0.015 * n_comparisons, "and they do find something"


def covers(result: Estimate, truth: float) -> bool:
    assert result.low is not None
    assert result.high is not None
    return result.low <= truth <= result.high


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_intervals_cover_the_truth_as_often_as_they_say(effect: float):
    n_comparisons = 1500
    of_difference = of_mean = 0
    for scores in simulated(n_comparisons, 2, 6, effect):
        difference, mean = estimate(scores[1] - scores[0]), estimate(scores[1])
        of_difference += covers(difference, effect * 0.01)
        of_mean += covers(mean, 0.6 + effect * 0.01)
    lowest, highest = stats.binom.ppf([0.0005, 0.9995], n_comparisons, 0.95)
    assert lowest <= of_difference <= highest
    assert lowest <= of_mean <= highest


def test_as_many_seeds_as_needed_find_the_effect_as_often_as_they_say():
    effect = 1.0  # of the scores; of the differences, whose deviation is √2 times theirs, 1/√2
    n_seeds = seeds_needed(effect / math.sqrt(2))
    assert n_seeds is not None
    n_comparisons = 1500
    found = sum((t_p_value(s[1] - s[0]) or 1.0) < 0.05 for s in simulated(n_comparisons, 2, n_seeds, effect))
    assert found >= stats.binom.ppf(0.0005, n_comparisons, 0.8)
    assert found <= stats.binom.ppf(0.9995, n_comparisons, 0.85)
