"""What the scores of plays say, against hand values and simulation."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nmg.auditing.agreement import Agreement, agreement
from nmg.auditing.findings import adaptation, possible_gain, rewards, schedules_of, score_of, spread_of, table_of
from nmg.auditing.trials import AuditTrial
from nmg.base.errors import UserError
from support.trials import audited


def played(masking: str, seed: int, accuracy: tuple[float, float], probe: float = 0.5, steps: int = 10) -> AuditTrial:
    scores = [{"accuracy": value, "loss": 1 - value} for value in accuracy]
    return audited(masking, seed, {"accuracy": probe, "loss": 1 - probe}, scores, steps=steps)


def test_a_lower_loss_is_the_better_score():
    assert score_of({"loss": 2.0}, "loss") == -2.0
    assert score_of({"f1": 0.5}, "f1") == 0.5


def test_spread_by_hand():
    """Two maskings, two seeds: means 2 and 5, seeds' levels −1 and +1; what is left over is ±0.5."""
    spread = spread_of(np.array([[0.5, 3.5], [4.5, 5.5]]))
    left = np.array([[-0.5, 0.5], [0.5, -0.5]])
    noise = np.square(left).sum() / 1
    means = np.var([2.0, 5.0], ddof=1)
    assert spread.noise == pytest.approx(math.sqrt(noise))
    assert spread.between == pytest.approx(math.sqrt(means - noise / 2))
    assert spread.p == pytest.approx(stats.f.sf(2 * means / noise, 1, 1))


def test_spread_finds_what_was_put_in():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        truth = 2.0 * rng.standard_normal((12, 1))
        found.append(spread_of(truth + 10 * rng.standard_normal((1, 4)) + rng.standard_normal((12, 4))))
    assert np.mean([spread.noise for spread in found]) == pytest.approx(1.0, abs=0.03)
    assert np.mean([spread.between**2 for spread in found]) == pytest.approx(4.0, rel=0.1)


def test_the_upper_limit_holds_as_often_as_it_says():
    """95 %, or a little more (97 at most, in 3000 draws).

    By hand: 2 · 4.5 / (1 + 2σ²) is an F(1, 1), whose 5 % quantile is tan²(π/40).
    """
    high = spread_of(np.array([[0.5, 3.5], [4.5, 5.5]])).between_high
    assert high == pytest.approx(math.sqrt(4.5 / math.tan(math.pi / 40) ** 2 - 0.5))
    rng = np.random.default_rng(7)
    for truth in (0.0, 0.5, 2.0):
        held = []
        for _ in range(400):
            table = truth * rng.standard_normal((9, 1)) + rng.standard_normal((9, 3))
            held.append((spread_of(table).between_high or 0.0) >= truth)
        assert 0.92 < np.mean(held) < (0.99 if truth else 1.01)
    assert spread_of(np.array([[1.0, 2.0], [3.0, 4.0]])).between_high is None, "no noise to compare with"


def test_the_best_direction_gains_no_more_than_is_said():
    """Effects of 12 features; 16 random directions and 3 seeds; the best direction of their mean length."""
    rng, held = np.random.default_rng(8), []
    for _ in range(400):
        effects = rng.standard_normal(12)
        directions = 2 * rng.standard_normal((16, 12))
        spread = spread_of((directions @ effects)[:, None] + 5 * rng.standard_normal((16, 3)))
        best = 2 * math.sqrt(12) * np.linalg.norm(effects)
        held.append(best <= (possible_gain(spread, 12) or 0.0))
    assert 0.92 < np.mean(held) < 0.995


def test_where_maskings_are_alike_the_test_rejects_at_its_level():
    rng = np.random.default_rng(6)
    p = [spread_of(rng.standard_normal((12, 3))).p for _ in range(400)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.08


def test_only_maskings_that_every_seed_has_are_in_the_table():
    plays = [played("a", 0, (0.1, 0.1)), played("a", 1, (0.2, 0.2)), played("b", 0, (0.3, 0.3))]
    names, table = table_of(plays, lambda play: play.finetune[0]["accuracy"])
    assert names == ["a"]
    assert table.tolist() == [[0.1, 0.2]]


def many(noise: float, probe_follows: bool, seed: int = 0) -> list[AuditTrial]:
    """20 maskings, 4 seeds; the probe has the true score, or knows nothing of it."""
    rng = np.random.default_rng(seed)
    truth = 0.5 + 0.05 * rng.standard_normal(20)
    plays = []
    for n, true in enumerate(truth):
        other = 0.5 + 0.05 * rng.standard_normal()
        for s in range(4):
            tuned = tuple(true + noise * rng.standard_normal(2))
            probe = (true if probe_follows else other) + 0.01 * rng.standard_normal()
            plays.append(played(f"direction-{n}", s, tuned, probe))
    return plays


def test_a_reward_that_follows_the_score_is_told_from_one_that_does_not():
    good = {(one.name, one.metric): one for one in rewards(many(0.05, probe_follows=True), "accuracy")}
    bad = {(one.name, one.metric): one for one in rewards(many(0.05, probe_follows=False), "accuracy")}
    probe = good["probe", "accuracy"]
    assert probe.corrected is not None
    assert probe.corrected > 0.8
    assert probe.rank_correlation is not None
    assert probe.rank_correlation > 0.6
    assert probe.corrected > probe.rank_correlation, "noise of the full score hides part of it"
    assert abs(bad["probe", "accuracy"].corrected or 0.0) < 0.5
    assert (probe.seconds, good["fine-tuning", "loss"].seconds) == (5.0, 7.0)
    assert good["2 fine-tunings", "loss"].seconds == 10.0


def test_plays_needed_are_those_of_a_paired_test():
    """A pair's difference has √2 of the noise; n pairs find one deviation between maskings in 80 % of experiments.

    By the noncentral t; by quantiles of the normal distribution 4 pairs of strong signals would have a power of half.
    """
    for noise in (0.05, 0.02):
        found = next(one for one in rewards(many(noise, probe_follows=True), "accuracy") if one.metric == "accuracy")
        effect = found.between / (math.sqrt(2) * found.noise)

        def power(n: int, effect: float = effect) -> float:
            reach, shift = stats.t.ppf(0.975, n - 1), effect * math.sqrt(n)
            return float(stats.nct.sf(reach, n - 1, shift) + stats.nct.cdf(-reach, n - 1, shift))

        assert found.plays_needed is not None
        assert power(found.plays_needed // 2) >= 0.8 > power(found.plays_needed // 2 - 1)
        assert found.minutes == pytest.approx(found.plays_needed * found.seconds / 60)


def test_no_differences_no_plays_that_would_find_them():
    plays = [played(f"m{n}", s, (0.5, 0.5), 0.5) for n in range(5) for s in range(3)]
    for one in rewards(plays, "accuracy"):
        assert one.plays_needed is None
        assert one.corrected is None


@pytest.mark.parametrize(("gain", "pays"), [(0.1, True), (-0.1, False), (0.0, None)])
def test_whether_adapting_pays(gain: float, pays: bool | None):
    rng = np.random.default_rng(1)

    def plays_of(seeds: range, schedules: tuple[int, ...]) -> list[AuditTrial]:
        plays = []
        for seed in seeds:
            level = 0.5 + 0.2 * rng.standard_normal()
            plays.append(played("none", seed, (level, level)))
            for steps in schedules:
                own = level + gain + 0.01 * rng.standard_normal(2)
                plays.append(played("random", seed, tuple(own), steps=steps))
        return plays

    tried = schedules_of(plays_of(range(6), (10, 30)), "accuracy")
    assert [one.steps for one in tried] == [10, 30]
    best = max(tried, key=lambda one: one.gain)
    fresh = plays_of(range(6, 12), (best.steps,))
    found = adaptation(tried, fresh, "accuracy")
    assert found.pays is pays
    assert found.schedules == tried
    gains = []
    for seed in range(6, 12):
        none, random = (play for play in fresh if play.spec.seed == seed)
        gains.append(np.mean([one["accuracy"] for one in random.finetune]) - none.finetune[0]["accuracy"])
    assert found.best.gain == pytest.approx(np.mean(gains)), "of the fresh plays alone"
    assert found.best.p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue), "one test, not one of two"
    assert found.best.steps == best.steps


def test_a_best_schedule_that_diverges_when_played_again_is_an_error():
    tried = schedules_of([played(name, seed, (0.5, 0.6)) for seed in range(3) for name in ("none", "random")], "loss")
    with pytest.raises(
        UserError, match=r"adapt\.learning_rate: the best schedule of the audit diverged when it was repeated"
    ):
        adaptation(tried, [played("none", 3, (0.5, 0.5))], "loss")


def worlds(n: int, m: int, k: int, *, true: float, rho: float) -> Iterator[tuple[Any, Any]]:
    """Tables [m, k] of a reward and of the full score: true effects that correlate by `rho`; most noise is shared."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        full, other = true * rng.standard_normal((2, m, 1))
        noise, reward = rng.standard_normal((m, k)), rho * full + math.sqrt(1 - rho**2) * other
        yield tuple(table + noise + 0.5 * rng.standard_normal((m, k)) for table in (reward, full))


@pytest.mark.parametrize("true", [0.0, 1.0, 2.0])
def test_noise_that_scores_share_is_no_agreement(true: float):
    """With the covariance of the noise left in, the correlation is 0.5 or more in 87 to 100 % of such worlds."""
    found = [agreement(*tables) for tables in worlds(200, 7, 3, true=true, rho=0.0)]
    shown = [one.estimate for one in found if one.estimate is not None]
    assert np.mean([one.estimate is not None and one.estimate >= 0.5 for one in found]) <= 0.15
    assert true < 2 or abs(np.median(shown)) < 0.06, "0.07 with the shared noise left in"
    assert np.mean([one.low is not None and one.low >= 0.5 for one in found]) <= 0.02
    assert np.mean([one.low is None or one.low <= 0 for one in found]) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize("rho", [-0.5, 0.5, 0.9])
def test_the_limits_of_the_agreement_hold_with_their_confidence(rho: float):
    found = [agreement(*tables) for tables in worlds(300, 10, 3, true=2.0, rho=rho)]
    least = 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300)
    assert np.mean([one.low is not None and one.low <= rho for one in found]) >= least
    assert np.mean([one.high is not None and one.high >= rho for one in found]) >= least


def test_a_score_agrees_with_itself():
    for reward, full in worlds(20, 10, 3, true=4.0, rho=1.0):
        itself = agreement(full, full)
        assert itself.estimate == pytest.approx(1.0)
        assert itself.high == pytest.approx(1.0)
        found = agreement(reward, full)
        assert found == agreement(reward, full), "its draws are the same each time"
        assert found.low is not None
        assert found.high is not None
        assert found.low <= (found.estimate or 0.0) <= found.high


def test_an_agreement_of_nothing_is_undefined():
    nothing, rng = Agreement(None, None, None), np.random.default_rng(0)
    assert agreement(np.zeros((2, 3)), np.zeros((2, 3))) == nothing, "two maskings have one difference"
    assert agreement(np.zeros((5, 1)), np.zeros((5, 1))) == nothing
    assert agreement(np.full((5, 3), 0.5), np.full((5, 3), 0.5)) == nothing
    assert agreement(np.full((5, 3), 0.5), rng.standard_normal((5, 3))) == nothing
