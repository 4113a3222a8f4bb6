"""What the plays of an audit say: pure functions of scores."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from nmg.audit.agreement import agreement
from nmg.audit.plays import Played
from nmg.comparison.statistics import paired_comparison, seeds_needed
from nmg.errors import UserError
from nmg.types import FloatArray

LEVEL = 0.05


@dataclass(frozen=True)
class Spread:
    """How far maskings differ in a score, against noise: an analysis of variance with seeds as blocks."""

    maskings: int
    seeds: int
    between: float
    """standard deviation of the maskings' true scores; 0 where they differ by no more than noise"""
    between_high: float | None
    """the least that it is not above with 95 % confidence, one-sided; None where there is nothing to test"""
    noise: float
    """standard deviation of a masking's score under one seed, after the seed's own level"""
    p: float | None
    """F test of "all maskings are alike"; None where there is nothing to test"""


def score_of(scores: Mapping[str, float], metric: str) -> float:
    """More is better."""
    return -scores[metric] if metric == "loss" else scores[metric]


def full_score(play: Played, metric: str) -> float:
    """Mean of what counts: of the fine-tunings, or the probe's. More is better."""
    return float(np.mean([score_of(one, metric) for one in play.counted]))


def spread_of(table: FloatArray) -> Spread:
    """From scores [maskings, seeds], both at least 2."""
    m, k = table.shape
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    noise = float(np.square(left).sum() / ((m - 1) * (k - 1)))
    means = float(table.mean(axis=1).var(ddof=1))
    between = math.sqrt(max(means - noise / k, 0.0))
    if noise == 0:
        return Spread(m, k, between, None, 0.0, None)
    f = stats.f(m - 1, (m - 1) * (k - 1))
    # k · means / (noise + k · between²) is distributed nearly as F; that noise is an estimate errs on the safe side
    high = math.sqrt(max(means / float(f.ppf(LEVEL)) - noise / k, 0.0))
    return Spread(m, k, between, high, math.sqrt(noise), float(f.sf(k * means / noise)))


def possible_gain(spread: Spread, n_features: int) -> float | None:
    """What a linear policy may gain over random masks at most, with 95 % confidence; None where nothing is known.

    Where a weight adds its share to the score, random directions of a length l vary by l · |effects| / √n, and the best
    direction of that length gains l · |effects|.
    """
    return None if spread.between_high is None else math.sqrt(n_features) * spread.between_high


def table_of(plays: Sequence[Played], score: Callable[[Played], float]) -> tuple[list[str], FloatArray]:
    """Maskings in order of first appearance, and scores [maskings, seeds] of those that every seed has."""
    seeds = sorted({play.key.seed for play in plays})
    by_masking: dict[str, dict[int, float]] = {}
    for play in plays:
        by_masking.setdefault(play.key.masking, {})[play.key.seed] = score(play)
    whole = {name: of for name, of in by_masking.items() if len(of) == len(seeds)}
    return list(whole), np.array([[of[seed] for seed in seeds] for of in whole.values()]).reshape(-1, len(seeds))


@dataclass(frozen=True)
class RewardFinding:
    """How well a cheap score stands for the score that counts, and what it costs."""

    name: str
    metric: str
    seconds: float
    """of one play, adaptation included"""
    rank_correlation: float | None
    """Spearman's, of the maskings' means over seeds with those of the full score from other fine-tunings"""
    corrected: float | None
    """the correlation of the true scores, without the noise of both and what they share of it; None unless both show
    that maskings differ"""
    corrected_low: float | None
    """95 % limits, each one-sided; None if there is nothing to tell it by"""
    corrected_high: float | None
    between: float
    noise: float
    plays_needed: int | None
    """pairs of plays × 2 that find a difference of one standard deviation between maskings, as a paired t test at 5 %
    does with 80 % power if `between` and `noise` are as estimated; None where there is none"""

    @property
    def minutes(self) -> float | None:
        return None if self.plays_needed is None else self.plays_needed * self.seconds / 60

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"minutes": self.minutes}


def rewards(plays: Sequence[Played], metric: str) -> list[RewardFinding]:
    """Each possible reward against the full score: `metric` of the last fine-tuning, which no reward is judged by here.

    The mean of all fine-tunings has less noise than one; how well it stands for the full score is judged by the first.
    Where the encoder stays frozen the full score is the probe's own.
    """

    def tuned(number: int, of: str) -> Callable[[Played], float]:
        return lambda play: score_of(play.finetune[number], of)

    def probed(of: str) -> Callable[[Played], float]:
        return lambda play: score_of(play.probe, of)

    adapted = [play for play in plays if play.key.masking != "none"]
    seconds = {p: float(np.mean([play.seconds[p] for play in adapted])) for p in ("adapt", "probe", "finetune")}
    n_tuned = len(adapted[0].finetune)
    full = table_of(adapted, lambda play: score_of(play.counted[-1], metric))[1]

    def all_tuned(play: Played) -> float:
        return float(np.mean([score_of(one, "loss") for one in play.finetune]))

    of_tuned = [
        ("fine-tuning", metric, tuned(0, metric), tuned(0, metric), seconds["finetune"]),
        ("fine-tuning", "loss", tuned(0, "loss"), tuned(0, "loss"), seconds["finetune"]),
        (f"{n_tuned} fine-tunings", "loss", all_tuned, tuned(0, "loss"), n_tuned * seconds["finetune"]),
    ]
    of_probe = [
        ("probe", metric, probed(metric), probed(metric), seconds["probe"]),
        ("probe", "loss", probed("loss"), probed("loss"), seconds["probe"]),
    ]
    return [
        _reward(name, of, table_of(adapted, own)[1], table_of(adapted, judged)[1], full, seconds["adapt"] + cost)
        for name, of, own, judged, cost in ([*of_tuned, *of_probe] if n_tuned else of_probe)
    ]


def _reward(
    name: str, metric: str, own: FloatArray, judged: FloatArray, full: FloatArray, seconds: float
) -> RewardFinding:
    """From tables [maskings, seeds] of the reward, of what it is judged by, and of the full score."""
    spread, agreed = spread_of(own), agreement(judged, full)
    a, b = judged.mean(axis=1), full.mean(axis=1)
    has_order = np.ptp(a) > 0 and np.ptp(b) > 0
    rank = float(stats.spearmanr(a, b).statistic) if has_order else None
    return RewardFinding(
        name,
        metric,
        seconds,
        rank,
        agreed.estimate,
        agreed.low,
        agreed.high,
        spread.between,
        spread.noise,
        plays_needed(spread),
    )


def plays_needed(spread: Spread) -> int | None:
    """Of pairs whose difference has √2 of the noise of a play."""
    if spread.between == 0:
        return None
    pairs = seeds_needed(spread.between / (math.sqrt(2) * spread.noise)) if spread.noise else 2
    return None if pairs is None else 2 * pairs


@dataclass(frozen=True)
class Schedule:
    """Random masks at one schedule against no adaptation, over seeds."""

    steps: int
    learning_rate: float
    gain: float
    low: float | None
    high: float | None
    p: float | None
    """two-sided paired t test, times the number of schedules that were tried on these plays (Bonferroni)"""
    lm_loss: float

    @property
    def is_sure(self) -> bool:
        return self.p is not None and self.p < LEVEL


@dataclass(frozen=True)
class Adaptation:
    """Does adapting under random masks pay over not adapting?"""

    pays: bool | None
    """by `best`; None: cannot tell"""
    best: Schedule
    """the schedule that was chosen, from plays that did not choose it"""
    schedules: Sequence[Schedule]
    """all, from the plays that chose: the largest gain of several is too good"""
    none: float
    """mean score without adaptation, of the plays of `best`"""


def schedules_of(plays: Sequence[Played], metric: str) -> list[Schedule]:
    """From plays of `none` and of `random` at several schedules, on the mean of each play's fine-tunings.

    Schedules with a seed that diverged are left out. Raises UserError where none is left.
    """
    none = _by_seed(plays, "none")
    by_schedule: dict[tuple[int, float], dict[int, Played]] = {}
    for play in plays:
        if play.key.masking == "random":
            by_schedule.setdefault((play.key.steps, play.key.learning_rate), {})[play.key.seed] = play
    whole = [of for of in by_schedule.values() if set(of) >= set(none)]
    if not none or not whole:
        raise UserError("adapt.learning_rate: under every schedule of the audit some training diverged; lower it")
    return [_against(of, none, metric, len(whole)) for of in whole]


def adaptation(tried: Sequence[Schedule], fresh: Sequence[Played], metric: str) -> Adaptation:
    """What the best schedule gains, from plays of `none` and `random` that did not choose it.

    Args:
        tried: all schedules, from the plays that chose the best.
        fresh: plays with other seeds, those of `random` at the best schedule.
        metric: of the score, more is better.

    Returns:
        The finding; `pays` is of a two-sided test at 5 % on the fresh plays alone.

    Raises:
        UserError: no seed of the fresh plays has both.
    """
    none, random = _by_seed(fresh, "none"), _by_seed(fresh, "random")
    if not set(none) & set(random):
        raise UserError("adapt.learning_rate: the best schedule of the audit diverged when played again; lower it")
    best = _against(random, none, metric, 1)
    level = float(np.mean([full_score(none[seed], metric) for seed in random if seed in none]))
    return Adaptation(best.gain > 0 if best.is_sure else None, best, tried, level)


def _by_seed(plays: Sequence[Played], masking: str) -> dict[int, Played]:
    return {play.key.seed: play for play in plays if play.key.masking == masking}


def _against(of: Mapping[int, Played], none: Mapping[int, Played], metric: str, n_tests: int) -> Schedule:
    """Plays of a schedule against those without adaptation, by seed; p is that of one of `n_tests` tests."""
    pairs = [(play, none[seed]) for seed, play in of.items() if seed in none]
    scores = np.array([[full_score(play, metric) for play in pair] for pair in pairs])
    test = paired_comparison(scores[:, 0], scores[:, 1])
    p = None if test.t_p is None else min(1.0, test.t_p * n_tests)
    lm_loss = float(np.mean([play.lm_loss or 0.0 for play, _ in pairs]))
    key = pairs[0][0].key
    return Schedule(key.steps, key.learning_rate, test.mean, test.low, test.high, p, lm_loss)
