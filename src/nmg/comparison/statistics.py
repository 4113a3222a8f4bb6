"""Statistics over a few seeds: means with intervals, paired tests, and the number of seeds that a difference needs.

Pure functions on arrays of finite scores, one score per seed; `crossed_interval` also takes the texts as a sample.
Undefined results are None, never NaN: for example the deviation of one number, or a t test of differences that are all
equal and not zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from nmg.base.types import BoolArray, FloatArray

CONFIDENCE = 0.95
"""Confidence level of every interval."""
ALPHA = 0.05
"""Significance level of every test, two-sided."""
POWER = 0.8
"""Probability with which a test with `seeds_needed` seeds detects the difference."""
MAX_SEEDS = 1_000_000
"""Upper limit of `seeds_needed`; a difference that needs more seeds is negligible."""
ROUNDING = 1e-12
"""Largest difference that counts as zero, because it may be rounding error of scores of the order of 1."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval."""

    n: int
    """Number of seeds."""
    mean: float
    deviation: float | None
    """Standard deviation with n − 1 degrees of freedom; None for one number."""
    low: float | None
    """Lower bound of the 95 % t interval; None for one number, or if all numbers are equal."""
    high: float | None
    """Upper bound of the 95 % t interval; None for one number, or if all numbers are equal."""


@dataclass(frozen=True)
class PairedTest:
    """The paired test of two maskings over the seeds that both have; differences are first − second."""

    n: int
    """Number of pairs."""
    mean: float
    """Mean difference."""
    low: float | None
    """Lower bound of the 95 % t interval; None for one pair, or if all differences are equal."""
    high: float | None
    """Upper bound of the 95 % t interval; None for one pair, or if all differences are equal."""
    t_p: float | None
    """p value of the two-sided paired t test; 1 if all differences are zero.

    None for one pair, or if all differences are equal and not zero.
    """
    wilcoxon_p: float | None
    """p value of the two-sided exact signed-rank test; 1 if all differences are zero; None for one pair."""
    effect_size: float | None
    """Cohen's d_z: mean / standard deviation of the differences; None for one pair, or if all differences are equal."""
    wins: int
    """Number of pairs in which the first masking has the higher score."""
    ties: int
    """Number of pairs with equal scores."""
    losses: int
    """Number of pairs in which the second masking has the higher score."""
    seeds_needed: int | None
    """Number of seeds that detect this effect size with 80 % power; None if it is 0, undefined or too small."""

    @property
    def is_constant(self) -> bool:
        """Whether the difference is the same in every seed and not zero, so that t is undefined."""
        return self.t_p is None and self.wilcoxon_p is not None

    @property
    def p(self) -> float | None:
        """p value of the t test, or of the exact signed-rank test if t is undefined; None for one pair."""
        return self.wilcoxon_p if self.t_p is None else self.t_p

    @property
    def reversed_(self) -> "PairedTest":
        """The test of second − first."""

        def negative(value: float | None) -> float | None:
            return None if value is None else 0.0 - value  # never −0

        return replace(
            self,
            mean=0.0 - self.mean,
            low=negative(self.high),
            high=negative(self.low),
            effect_size=negative(self.effect_size),
            wins=self.losses,
            losses=self.wins,
        )

    @property
    def seeds_still_needed(self) -> int | None:
        """Number of further seeds needed, at least 0; None if `seeds_needed` is None."""
        return None if self.seeds_needed is None else max(self.seeds_needed - self.n, 0)


def estimate(values: FloatArray) -> Estimate:
    """Return mean, standard deviation and 95 % t interval of values [n], n ≥ 1."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Estimate(n, mean, None, None, None)
    if not has_spread(values):
        return Estimate(n, mean, 0.0, None, None)
    deviation = float(values.std(ddof=1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)
    return Estimate(n, mean, deviation, mean - reach, mean + reach)


def paired_comparison(first: FloatArray, second: FloatArray) -> PairedTest:
    """Test the differences `first` − `second` of two arrays of scores [n], n ≥ 1, with the same seeds in each."""
    differences = first - second
    wins, losses = int((differences > ROUNDING).sum()), int((differences < -ROUNDING).sum())
    of_difference = estimate(differences)
    effect = effect_size(differences)
    return PairedTest(
        n=of_difference.n,
        mean=of_difference.mean,
        low=of_difference.low,
        high=of_difference.high,
        t_p=t_p_value(differences),
        wilcoxon_p=wilcoxon_p_value(differences),
        effect_size=effect,
        wins=wins,
        ties=len(differences) - wins - losses,
        losses=losses,
        seeds_needed=None if effect is None else seeds_needed(effect),
    )


def crossed_interval(differences: FloatArray) -> tuple[float, float] | None:
    """Return a 95 % interval of the mean difference over other seeds and other texts.

    Seeds and texts are two crossed samples. Each gives a t interval of the same mean: one over the means of seeds, one
    over the means of texts. The half-widths are added as squares (MOVER, Zou and Donner 2008). The result contains the
    interval over seeds. It is a little too wide, because both samples share the noise of single scores.

    Args:
        differences: float64 [seeds, texts].

    Returns:
        (low, high), or None if there are fewer than two seeds or texts.
    """
    if min(differences.shape) < 2:
        return None
    mean, by_seed, by_text = differences.mean(), estimate(differences.mean(axis=1)), estimate(differences.mean(axis=0))
    reach = math.hypot(*(one.high - one.mean for one in (by_seed, by_text) if one.high is not None))
    return float(mean - reach), float(mean + reach)


def has_spread(values: FloatArray) -> bool:
    """Return whether the values [n] differ by more than rounding error."""
    return len(values) > 1 and float(np.ptp(values)) >= ROUNDING


def _unequal_to_zero(differences: FloatArray) -> BoolArray:
    return np.abs(differences) > ROUNDING


def effect_size(differences: FloatArray) -> float | None:
    """Return Cohen's d_z (Cohen 1988, section 2.3.5) of differences [n]; None if all are equal or n is 1."""
    return float(differences.mean() / differences.std(ddof=1)) if has_spread(differences) else None


def t_p_value(differences: FloatArray) -> float | None:
    """Return the p value of a two-sided one-sample t test that the mean of differences [n] is 0.

    Returns 1 if there are several differences and all are zero, because nothing then suggests a difference. Returns
    None if there is only one difference, or if all are equal and not zero.
    """
    effect = effect_size(differences)
    if effect is None:
        return 1.0 if len(differences) > 1 and not _unequal_to_zero(differences).any() else None
    n = len(differences)
    return 2 * float(stats.t.sf(abs(effect) * math.sqrt(n), n - 1))


def wilcoxon_p_value(differences: FloatArray) -> float | None:
    """Return the p value of the two-sided Wilcoxon signed-rank test of differences [n], exact for every n.

    Zeros are left out (Wilcoxon's own rule, `zero_method="wilcox"` of scipy), and ties get their mean rank. The null
    distribution is that of the observed ranks over all assignments of signs. Returns None for one difference, and 1 if
    all are zero. Differences that are equal and not zero have a p value, which depends only on their signs.
    """
    if len(differences) < 2:
        return None
    differences = differences[_unequal_to_zero(differences)]
    if not len(differences):
        return 1.0
    # Sizes that differ by rounding error are ties. Mean ranks are multiples of 1/2, so twice the ranks are integers.
    sizes = np.round(np.abs(differences) / ROUNDING)
    ranks = np.rint(2 * stats.rankdata(sizes)).astype(np.int64)
    probability = np.ones(1)  # probability of each rank sum over the ranks so far
    for rank in ranks:
        probability = (np.pad(probability, (0, rank)) + np.pad(probability, (rank, 0))) / 2
    observed = int(ranks[differences > 0].sum())
    tail = min(probability[: observed + 1].sum(), probability[observed:].sum())
    return min(1.0, 2 * float(tail))


def seeds_needed(effect: float) -> int | None:
    """Return the fewest seeds with which an uncorrected paired t test at 5 % detects this effect with 80 % power.

    `effect` is Cohen's d_z. Returns None for an effect of 0, or if more than `MAX_SEEDS` seeds are needed.
    """
    from statsmodels.stats.power import TTestPower  # takes a second to import

    # This many seeds are enough if the deviation is known. A t test always needs a few more.
    with_known_deviation = (stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)) ** 2
    if abs(effect) * math.sqrt(MAX_SEEDS) < math.sqrt(with_known_deviation):
        return None
    n = max(int(with_known_deviation / effect**2), 2)
    # Very large effects give a power of NaN instead of about 1. NaN also ends the loop.
    while TTestPower().power(abs(effect), n, ALPHA) < POWER:
        n += 1
    return n


def holm(p_values: Sequence[float | None], n_planned: int = 0) -> list[float | None]:
    """Adjust the p values of one family by Holm's step-down procedure.

    The family is what was planned, independent of the data: a planned test without a p value counts as p = 1.

    Args:
        p_values: p values of the tests that were attempted; None if a test is undefined.
        n_planned: Number of planned tests of the family, if larger than the number of `p_values`.

    Returns:
        The adjusted p values; None stays None.
    """
    from statsmodels.stats.multitest import multipletests

    whole = [1.0 if p is None else p for p in p_values] + [1.0] * (n_planned - len(p_values))
    adjusted = multipletests(whole, method="holm")[1].tolist() if whole else []
    return [None if p is None else value for p, value in zip(p_values, adjusted, strict=False)]
