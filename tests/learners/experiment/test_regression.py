"""Ridge regression of scores on features: by closed forms, by least squares, and in simulation."""

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
import statsmodels.api as sm

from nmg.base.types import FloatArray
from nmg.learners.experiment import regression
from nmg.learners.experiment.regression import REACH, Effects, f_test, gain_limit, placebo_lengths, regress

Data = tuple[FloatArray, FloatArray, FloatArray]
"""x, y, the effects behind them"""


def simulated(n_sets: int, n: int, ratio: float | None, seed: int, n_features: int = 15) -> Iterator[Data]:
    """Features that are correlated, and effects that explain `ratio` times the variance of the noise.

    None: as likely as `RATIOS` has it, each effect drawn for itself.
    """
    rng = np.random.default_rng(seed)
    for _ in range(n_sets):
        mixing = np.eye(n_features) + 0.3 * rng.standard_normal((n_features, n_features))
        x = rng.standard_normal((n, n_features)) @ mixing
        scale = np.square(x).sum(axis=1).mean()
        effects = rng.standard_normal(n_features)
        if ratio is None:
            effects *= np.sqrt(rng.choice(regression.RATIOS) / scale)
        else:
            effects *= np.sqrt(ratio / np.square(x @ effects).mean())
        yield x, x @ effects + rng.standard_normal(n), effects


def is_finite(effects: Effects) -> bool:
    values = [effects.mean, effects.covariance, effects.deviation, effects.noise, effects.direction(), effects.length]
    return all(bool(np.isfinite(value).all()) for value in values)


def test_planted_effects_are_recovered():
    effects = np.array([0.0, 1.0, -0.5, 0.0, 0.25])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 5))
    found = regress(x, x @ effects + rng.normal(0, 0.7, 400))
    np.testing.assert_allclose(found.mean, effects, atol=4 * 0.7 / np.sqrt(400))
    np.testing.assert_allclose(found.deviation, 0.7 / np.sqrt(400), rtol=0.2)
    assert found.noise == pytest.approx(0.7, rel=0.1)
    assert found.direction() @ effects / np.linalg.norm(effects) > 0.99
    assert np.linalg.norm(found.direction()) == pytest.approx(1)
    assert found.n == 400
    assert found.f_p is not None
    assert found.f_p < 1e-9


@pytest.mark.parametrize("ratio", [0.3, 1.0])
@pytest.mark.parametrize(("n", "least"), [(30, 0.5), (60, 0.7), (200, 0.85)])
def test_the_direction_is_better_than_chance_and_better_with_more_pairs(ratio: float, n: int, least: float):
    cosines = []
    for x, y, effects in simulated(40, n, ratio, seed=1):
        shifts = x @ regress(x, y).direction(), x @ effects
        cosines.append(shifts[0] @ shifts[1] / np.linalg.norm(shifts[0]) / np.linalg.norm(shifts[1]))
    assert np.mean(cosines) > least


def test_one_ratio_is_the_closed_form_of_ridge(monkeypatch: pytest.MonkeyPatch):
    """Mean (X'X + λ)⁻¹ X'y and covariance s² (X'X + λ)⁻¹, also with fewer rows than features."""
    for n in (40, 8):
        ((x, y, _),) = simulated(1, n, 0.5, seed=n)
        for ratio in (0.05, 3.0):
            monkeypatch.setattr(regression, "RATIOS", np.array([ratio]))
            penalty = np.square(x).sum() / n / ratio
            gram = x.T @ x + penalty * np.eye(15)
            found = regress(x, y)
            np.testing.assert_allclose(found.mean, np.linalg.solve(gram, x.T @ y), atol=1e-10)
            left = y @ (y - x @ found.mean)
            np.testing.assert_allclose(found.covariance, left / (n - 2) * np.linalg.inv(gram), atol=1e-10)
            assert found.noise == pytest.approx(np.sqrt(left / (n - 2)))


def test_ratios_weigh_as_their_marginal_likelihoods(monkeypatch: pytest.MonkeyPatch):
    """y has the covariance s² (1 + X X' / λ), and s² has the density 1 / s²: by the determinant and the inverse."""
    ((x, y, _),) = simulated(1, 30, 1.0, seed=3)
    ratios = np.array([0.02, 0.3, 2.0])
    means, evidence = [], []
    for ratio in ratios:
        monkeypatch.setattr(regression, "RATIOS", np.array([ratio]))
        means.append(regress(x, y).mean)
        spread = np.eye(30) + x @ x.T * ratio / (np.square(x).sum() / 30)
        evidence.append(-0.5 * np.linalg.slogdet(spread)[1] - 15 * np.log(y @ np.linalg.solve(spread, y)))
    weights = np.exp(np.array(evidence) - max(evidence))
    monkeypatch.setattr(regression, "RATIOS", ratios)
    np.testing.assert_allclose(regress(x, y).mean, weights @ np.array(means) / weights.sum(), atol=1e-10)


def coverage(found: Effects, effects: FloatArray) -> float:
    return float(np.mean(np.abs(found.mean - effects) <= REACH * found.deviation))


@pytest.mark.parametrize("n", [20, 50, 100])
def test_intervals_hold_the_effects(n: int):
    """In 95 % of cases, whatever the size of the effects; 1.96 deviations held as few as 82 %."""
    covered = [coverage(regress(x, y), effects) for x, y, effects in simulated(250, n, None, seed=n)]
    assert np.mean(covered) > 0.95
    for ratio, least in ((0.0, 0.99), (0.1, 0.94), (0.5, 0.94), (3.0, 0.94)):
        covered = [coverage(regress(x, y), effects) for x, y, effects in simulated(60, n, ratio, seed=n)]
        assert np.mean(covered) > least, ratio


def test_without_any_effect_nearly_nothing_is_left():
    """Of what least squares would find, and of what an effect as large as the noise is found as."""
    for n in (30, 100):
        lengths, least_squares = [], []
        for x, y, _ in simulated(60, n, 0.0, seed=5):
            lengths.append(regress(x, y).length)
            least_squares.append(np.linalg.norm(np.linalg.lstsq(x, y, rcond=None)[0]))
        there = [regress(x, y).length for x, y, _ in simulated(60, n, 1.0, seed=5)]
        assert np.median(lengths) < 0.2 * np.median(least_squares)
        assert np.median(lengths) < 0.2 * np.median(there)


@pytest.mark.parametrize("n", [20, 50])
def test_the_f_test_rejects_at_its_level(n: int):
    p = np.array([f_test(x, y)[1] for x, y, _ in simulated(400, n, 0.0, seed=2)])
    for level in (0.05, 0.2):
        assert abs(np.mean(p < level) - level) < 3 * np.sqrt(level * (1 - level) / 400)
    there = np.array([f_test(x, y)[1] for x, y, _ in simulated(50, n, 3.0, seed=2)])
    assert np.mean(there < 0.05) > (0.2 if n == 20 else 0.95)


@pytest.mark.parametrize(("n", "n_features"), [(12, 3), (50, 15), (17, 15)])
def test_the_f_test_is_that_of_least_squares(n: int, n_features: int):
    """statsmodels has no intercept where none is added, as here: x = 0 gives y = 0."""
    ((x, y, _),) = simulated(1, n, 0.5, seed=4, n_features=n_features)
    fitted = sm.OLS(y, x).fit()
    f, p = f_test(x, y)
    assert f == pytest.approx(fitted.fvalue)
    assert p == pytest.approx(fitted.f_pvalue)
    found = regress(x, y)
    assert (found.f, found.f_p) == (f, p)


def test_the_f_test_counts_collinear_features_once():
    ((x, y, _),) = simulated(1, 30, 0.5, seed=6, n_features=4)
    again = np.hstack([x, x[:, :2], x[:, :1] - x[:, 1:2], np.zeros((30, 1))])
    assert f_test(again, y) == pytest.approx(f_test(x, y))


def test_too_few_rows_for_the_f_test():
    ((x, y, _),) = simulated(1, 20, 0.5, seed=6)
    assert [f_test(x[:n], y[:n])[0] is None for n in (0, 1, 15, 16, 17)] == [True, True, True, True, False]
    assert f_test(np.zeros((20, 15)), y) == (None, None)
    assert f_test(x, np.zeros(20)) == (None, None)


@pytest.mark.filterwarnings("error")
def test_degenerate_inputs_give_numbers():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal(30)
    collinear = np.hstack([x, x, 1e-9 * x])
    cases = {
        "no row": (x[:0], y[:0]),
        "one row": (x[:1], y[:1]),
        "two rows": (x[:2], y[:2]),
        "masks never differ": (0 * x, y),
        "scores never differ": (x, 0 * y),
        "nothing differs": (0 * x, 0 * y),
        "collinear": (collinear, y),
        "a perfect fit": (x, x @ np.array([1.0, 2.0, 0.0, -1.0])),
        "one row many times": (np.tile(x[:1], (30, 1)), np.full(30, 0.5)),
        "tiny": (1e-12 * x, 1e-12 * y),
        "large": (1e9 * x, 1e9 * y),
        "one feature": (x[:, :1], y),
    }
    for name, (one_x, one_y) in cases.items():
        found = regress(one_x, one_y)
        assert is_finite(found), name
        assert (found.deviation >= 0).all(), name
        text = json.dumps(found.to_json([f"f{i}" for i in range(one_x.shape[1])]), allow_nan=False)
        assert len(json.loads(text)["features"]) == one_x.shape[1]
        band = placebo_lengths(one_x, one_y, np.random.default_rng(0), 3)
        assert band.shape == (3,)
        assert np.isfinite(band).all(), name


def test_scores_that_never_differ_say_that_features_do_nothing():
    """And masks that never differ say nothing of them."""
    x = np.random.default_rng(0).standard_normal((30, 4))
    same_scores, same_masks = regress(x, np.zeros(30)), regress(0 * x, np.ones(30))
    for found in (same_scores, same_masks):
        assert not found.mean.any()
        assert not found.direction().any()
    assert not same_scores.deviation.any()
    assert same_masks.deviation.all()


def test_collinear_features_share_an_effect():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 1))
    found = regress(np.hstack([x, x, rng.standard_normal((200, 1))]), 2 * x[:, 0] + 0.1 * rng.standard_normal(200))
    np.testing.assert_allclose(found.mean, [1, 1, 0], atol=0.05)
    apart = found.covariance[0, 0] + found.covariance[1, 1] - 2 * found.covariance[0, 1]
    together = found.covariance[0, 0] + found.covariance[1, 1] + 2 * found.covariance[0, 1]
    assert apart > 100 * together, "their sum is known, their difference is not"


def test_units_do_not_matter():
    ((x, y, _),) = simulated(1, 40, 0.5, seed=7)
    one, other = regress(x, y), regress(3 * x, 100 * y)
    np.testing.assert_allclose(other.mean, one.mean * 100 / 3)
    np.testing.assert_allclose(other.deviation, one.deviation * 100 / 3)
    assert other.noise == pytest.approx(100 * one.noise)
    assert other.f_p == pytest.approx(one.f_p)


def test_what_json_says():
    ((x, y, _),) = simulated(1, 40, 0.5, seed=7, n_features=2)
    found = regress(x, y)
    said = found.to_json(["idf", "digit"])
    assert said["pairs"] == 40
    assert (said["f"], said["f_p"], said["noise"]) == (found.f, found.f_p, found.noise)
    for feature, mean, deviation in zip(said["features"], found.mean, found.deviation, strict=True):
        assert feature["effect"] == mean
        assert feature["high"] - feature["effect"] == pytest.approx(2.8 * deviation)
        assert feature["effect"] - feature["low"] == pytest.approx(2.8 * deviation)
    assert [feature["feature"] for feature in said["features"]] == ["idf", "digit"]
    with pytest.raises(ValueError, match="zip"):
        found.to_json(["idf"])


def test_the_limit_of_a_gain_is_of_the_best_direction_of_the_length_drawn():
    """Three features, two of them nearly one: directions drawn by chance, and the best one, played for real."""
    rng, mixing = np.random.default_rng(8), np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 0.5]])
    beta, directions = np.array([0.6, -0.2, 0.3]), 2 * rng.standard_normal((4000, 3))
    best = mixing @ beta
    best *= 2 * math.sqrt(3) / np.linalg.norm(best)
    x = directions @ mixing
    for noise in (0.0, 0.1):
        y = x @ beta + noise * rng.standard_normal(4000)
        assert gain_limit(x, y, 0.5, rng) == pytest.approx(best @ mixing @ beta / 2, rel=0.03)
        assert gain_limit(x, 100 * y, 0.5, rng) == pytest.approx(100 * best @ mixing @ beta / 2, rel=0.03)


@pytest.mark.parametrize(
    ("n", "signal"),
    [
        (20, 0.3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((20, 1.0), (20, 3.0), (50, 0.3), (50, 3.0))),
    ],
)
def test_the_limit_of_a_gain_holds_with_its_confidence(signal: float, n: int):
    """By the quantile of the posterior it held in 74 to 86 % of worlds whose effects are as large as the noise."""
    rng, held, worlds = np.random.default_rng(1), [], 300
    scales = np.geomspace(1.5, 0.02, 15)
    for _ in range(worlds):
        beta = rng.standard_normal(15) / scales
        x = 2 * rng.standard_normal((n, 15)) * scales
        beta *= signal / (2 * np.linalg.norm(scales * beta))
        y = x @ beta + rng.standard_normal(n)
        limit = gain_limit(x, y, 0.95, rng)
        assert limit is not None
        held.append(limit >= math.sqrt(15) * signal / 2)
    assert np.mean(held) == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / worlds))


def test_a_gain_has_a_limit_where_there_is_something_to_tell_it_by():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal(30)
    assert gain_limit(x[:5], y[:5], 0.95, rng) is None, "one row more than features"
    assert gain_limit(x[:6], y[:6], 0.95, rng) is not None
    assert gain_limit(x[:0], y[:0], 0.95, rng) is None
    assert gain_limit(0 * x, y, 0.95, rng) is None
    assert gain_limit(x, 0 * y, 0.95, rng) == 0, "scores that never differ"
    collinear = np.hstack([x, x, 1e-9 * x])
    for one_x, one_y in ((collinear, y), (x, x @ np.array([1.0, 2.0, 0.0, -1.0])), (1e9 * x, 1e-9 * y)):
        limit = gain_limit(one_x, one_y, 0.95, rng)
        assert limit is not None
        assert 0 < limit < math.inf
    one, other = (gain_limit(x, y, 0.95, np.random.default_rng(3)) for _ in range(2))
    assert one == other


def test_the_placebo_band_is_of_what_chance_shows():
    """An effect stands out of it, none does not."""
    ((x, y, _),) = simulated(1, 100, 1.0, seed=9)
    assert regress(x, y).length > placebo_lengths(x, y, np.random.default_rng(0)).max()
    outside = []
    for one_x, one_y, _ in simulated(40, 40, 0.0, seed=9):
        band = placebo_lengths(one_x, one_y, np.random.default_rng(0), 40)
        outside.append(regress(one_x, one_y).length > np.quantile(band, 0.9))
    assert np.mean(outside) < 0.25
