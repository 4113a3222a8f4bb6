"""Computes the findings of an audit: pure functions of the scores of its trials."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from nmg.auditing.agreement import agreement
from nmg.auditing.trials import AuditTrial
from nmg.base.errors import UserError
from nmg.base.types import FloatArray
from nmg.comparison.statistics import paired_comparison, seeds_needed

LEVEL = 0.05
"""Significance level of every test."""


@dataclass(frozen=True)
class Spread:
    """The variation of a score between maskings, compared with noise: an analysis of variance with seeds as blocks."""

    maskings: int
    """Number of maskings."""
    seeds: int
    """Number of seeds."""
    between: float
    """Standard deviation of the maskings' true scores; 0 if they differ by no more than noise."""
    between_high: float | None
    """Upper 95 % confidence limit of `between`, one-sided; None if no test is possible."""
    noise: float
    """Standard deviation of a masking's score under one seed, after the mean of the seed is subtracted."""
    p: float | None
    """p value of the F test that all maskings have the same score; None if no test is possible."""


def score_of(scores: Mapping[str, float], metric: str) -> float:
    """Return the score of a metric, with the sign changed for `loss`; higher is better."""
    return -scores[metric] if metric == "loss" else scores[metric]


def full_score(trial: AuditTrial, metric: str) -> float:
    """Return the mean score of the fine-tuning runs or, without any, the score of the probe; higher is better."""
    return float(np.mean([score_of(one, metric) for one in trial.counted]))


def spread_of(table: FloatArray) -> Spread:
    """Compare the variation between maskings with noise.

    `table` has scores [maskings, seeds], with at least 2 maskings and 2 seeds.
    """
    m, k = table.shape
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    noise = float(np.square(left).sum() / ((m - 1) * (k - 1)))
    means = float(table.mean(axis=1).var(ddof=1))
    between = math.sqrt(max(means - noise / k, 0.0))
    if noise == 0:
        return Spread(m, k, between, None, 0.0, None)
    f = stats.f(m - 1, (m - 1) * (k - 1))
    # k · means / (noise + k · between²) is nearly F-distributed. Estimating the noise makes the limit conservative.
    high = math.sqrt(max(means / float(f.ppf(LEVEL)) - noise / k, 0.0))
    return Spread(m, k, between, high, math.sqrt(noise), float(f.sf(k * means / noise)))


def possible_gain(spread: Spread, n_features: int) -> float | None:
    """Return the upper 95 % confidence limit of the gain of a linear policy over random masks; None if it is unknown.

    This assumes that each weight contributes linearly to the score. Scores of random directions of length l then have a
    standard deviation of l · |effects| / √n. The best direction of this length gains l · |effects|. `n_features` is n.
    """
    return None if spread.between_high is None else math.sqrt(n_features) * spread.between_high


def table_of(trials: Sequence[AuditTrial], score: Callable[[AuditTrial], float]) -> tuple[list[str], FloatArray]:
    """Arrange scores in a table of the maskings that have a trial for every seed.

    Returns the names of these maskings in order of first appearance, and their scores, float [maskings, seeds].
    """
    seeds = sorted({trial.spec.seed for trial in trials})
    by_masking: dict[str, dict[int, float]] = {}
    for trial in trials:
        by_masking.setdefault(trial.spec.masking, {})[trial.spec.seed] = score(trial)
    whole = {name: of for name, of in by_masking.items() if len(of) == len(seeds)}
    return list(whole), np.array([[of[seed] for seed in seeds] for of in whole.values()]).reshape(-1, len(seeds))


@dataclass(frozen=True)
class RewardFinding:
    """How well a cheap score approximates the full score, and what it costs."""

    name: str
    metric: str
    """Metric of the reward."""
    seconds: float
    """Seconds per trial, including adaptation."""
    rank_correlation: float | None
    """Spearman's correlation of the maskings' mean scores with their full scores from other fine-tuning runs."""
    corrected: float | None
    """Estimated correlation between the true scores of the reward and the true full scores.

    None unless both scores show that maskings differ (F test at 5 %).
    """
    corrected_low: float | None
    """One-sided lower 95 % limit of the correlation of true scores; None if the data cannot determine it."""
    corrected_high: float | None
    """One-sided upper 95 % limit of the correlation of true scores; None if the data cannot determine it."""
    between: float
    """Standard deviation of the maskings' true scores; 0 if they differ by no more than noise."""
    noise: float
    """Standard deviation of a masking's score under one seed."""
    plays_needed: int | None
    """Number of trials (two per pair) needed to detect a difference of one standard deviation between maskings.

    With this number, a paired t test at 5 % has 80 % power if `between` and `noise` are as estimated. None if no number
    is enough.
    """

    @property
    def minutes(self) -> float | None:
        """Duration of the `plays_needed` trials in minutes; None if no number is enough."""
        return None if self.plays_needed is None else self.plays_needed * self.seconds / 60

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the reward in audit.json."""
        return asdict(self) | {"minutes": self.minutes}


def rewards(trials: Sequence[AuditTrial], metric: str) -> list[RewardFinding]:
    """Compare each possible reward with the full score, which is `metric` of the last fine-tuning run.

    No reward is compared with the fine-tuning run that it uses itself. The mean of all fine-tuning runs has less noise
    than one run; its agreement with the full score is estimated from the first run. If the encoder stays frozen, the
    full score is that of the probe or of the embeddings.
    """

    def tuned(number: int, of: str) -> Callable[[AuditTrial], float]:
        return lambda trial: score_of(trial.finetune[number], of)

    def probed(of: str) -> Callable[[AuditTrial], float]:
        return lambda trial: score_of(trial.probe, of)

    adapted = [trial for trial in trials if trial.spec.masking != "none"]
    seconds = {p: float(np.mean([trial.seconds[p] for trial in adapted])) for p in ("adapt", "probe", "finetune")}
    n_tuned = len(adapted[0].finetune)
    full = table_of(adapted, lambda trial: score_of(trial.counted[-1], metric))[1]

    def all_tuned(trial: AuditTrial) -> float:
        return float(np.mean([score_of(one, "loss") for one in trial.finetune]))

    of_tuned = [
        ("fine-tuning", metric, tuned(0, metric), tuned(0, metric), seconds["finetune"]),
        ("fine-tuning", "loss", tuned(0, "loss"), tuned(0, "loss"), seconds["finetune"]),
        (f"{n_tuned} fine-tunings", "loss", all_tuned, tuned(0, "loss"), n_tuned * seconds["finetune"]),
    ]
    frozen = "embeddings" if adapted[0].results[0].spec.evaluation == "embedding" else "probe"
    of_probe = [
        (frozen, metric, probed(metric), probed(metric), seconds["probe"]),
        (frozen, "loss", probed("loss"), probed("loss"), seconds["probe"]),
    ]
    return [
        _reward(name, of, table_of(adapted, own)[1], table_of(adapted, judged)[1], full, seconds["adapt"] + cost)
        for name, of, own, judged, cost in ([*of_tuned, *of_probe] if n_tuned else of_probe)
    ]


def _reward(
    name: str, metric: str, own: FloatArray, judged: FloatArray, full: FloatArray, seconds: float
) -> RewardFinding:
    """Compare a reward with the full score.

    Args:
        name: Name of the reward.
        metric: Metric of the reward.
        own: float [maskings, seeds]: scores of the reward.
        judged: float [maskings, seeds]: scores of the reward, or of a part of it that does not use the evaluation of
            `full`.
        full: float [maskings, seeds]: full scores.
        seconds: Seconds per trial, including adaptation.

    Returns:
        The finding.
    """
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
    """Return the number of trials needed (see `RewardFinding.plays_needed`); None if no number is enough.

    The difference between the two trials of a pair has √2 times the noise of one trial.
    """
    if spread.between == 0:
        return None
    pairs = seeds_needed(spread.between / (math.sqrt(2) * spread.noise)) if spread.noise else 2
    return None if pairs is None else 2 * pairs


@dataclass(frozen=True)
class Schedule:
    """The gain of random masks over no adaptation with one schedule, over seeds."""

    steps: int
    """Number of adaptation steps."""
    learning_rate: float
    """Learning rate of the adaptation."""
    gain: float
    """Mean difference in full score from no adaptation."""
    low: float | None
    """Lower bound of the 95 % interval of the gain; None if undefined."""
    high: float | None
    """Upper bound of the 95 % interval of the gain; None if undefined."""
    p: float | None
    """p value of the two-sided paired t test, times the number of schedules tried on these trials (Bonferroni)."""
    lm_loss: float
    """Mean masked-LM loss of the adaptation, in nats."""

    @property
    def is_sure(self) -> bool:
        """Whether the gain differs significantly from 0."""
        return self.p is not None and self.p < LEVEL


@dataclass(frozen=True)
class Adaptation:
    """Whether adapting under random masks improves on not adapting."""

    pays: bool | None
    """Whether `best` has a gain above 0; None if the test is not significant."""
    best: Schedule
    """The chosen schedule, evaluated on trials that were not used to choose it."""
    schedules: Sequence[Schedule]
    """All schedules, evaluated on the trials used to choose `best`; the largest of these gains is biased upwards."""
    none: float
    """Mean full score without adaptation, over the trials of `best`."""


def schedules_of(trials: Sequence[AuditTrial], metric: str) -> list[Schedule]:
    """Compare random masks at several schedules with `none`, by the full score of each trial.

    Schedules of which a trial diverged are left out. Raises UserError if no schedule is left.
    """
    none = _by_seed(trials, "none")
    by_schedule: dict[tuple[int, float], dict[int, AuditTrial]] = {}
    for trial in trials:
        if trial.spec.masking == "random":
            by_schedule.setdefault((trial.steps, trial.learning_rate), {})[trial.spec.seed] = trial
    whole = [of for of in by_schedule.values() if set(of) >= set(none)]
    if not none or not whole:
        raise UserError("adapt.learning_rate: training diverged under every schedule of the audit; lower it")
    return [_against(of, none, metric, len(whole)) for of in whole]


def adaptation(tried: Sequence[Schedule], fresh: Sequence[AuditTrial], metric: str) -> Adaptation:
    """Estimate the gain of the best schedule from trials that were not used to choose it.

    Args:
        tried: All schedules, evaluated on the trials used to choose the best one.
        fresh: Trials with other seeds; those of `random` use the best schedule.
        metric: The metric of the full score.

    Returns:
        The finding; `pays` comes from a two-sided test at 5 % on the fresh trials only.

    Raises:
        UserError: No seed of the fresh trials has both `none` and `random`.
    """
    none, random = _by_seed(fresh, "none"), _by_seed(fresh, "random")
    if not set(none) & set(random):
        raise UserError("adapt.learning_rate: the best schedule of the audit diverged when it was repeated; lower it")
    best = _against(random, none, metric, 1)
    level = float(np.mean([full_score(none[seed], metric) for seed in random if seed in none]))
    return Adaptation(best.gain > 0 if best.is_sure else None, best, tried, level)


def _by_seed(trials: Sequence[AuditTrial], masking: str) -> dict[int, AuditTrial]:
    return {trial.spec.seed: trial for trial in trials if trial.spec.masking == masking}


def _against(of: Mapping[int, AuditTrial], none: Mapping[int, AuditTrial], metric: str, n_tests: int) -> Schedule:
    """Compare the trials of one schedule with trials without adaptation, paired by seed.

    Args:
        of: Seed → trial with random masks.
        none: Seed → trial without adaptation.
        metric: The metric of the full score.
        n_tests: Number of tests for the Bonferroni correction of p.

    Returns:
        The gain of the schedule over the seeds that both have.
    """
    pairs = [(trial, none[seed]) for seed, trial in of.items() if seed in none]
    scores = np.array([[full_score(trial, metric) for trial in pair] for pair in pairs])
    test = paired_comparison(scores[:, 0], scores[:, 1])
    p = None if test.t_p is None else min(1.0, test.t_p * n_tests)
    lm_loss = float(np.mean([trial.results[0].adaptation.loss or 0.0 for trial, _ in pairs]))
    tried = pairs[0][0]
    return Schedule(tried.steps, tried.learning_rate, test.mean, test.low, test.high, p, lm_loss)
