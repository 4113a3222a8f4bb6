"""How well a smaller validation set ranks two players.

All players of an episode are scored on the same examples, so what matters is the difference of each example's scores.
`meta.max_validation_examples` sets how many examples a run scores; this module says what a number costs in certainty.
"""

import math

import numpy as np
from scipy import stats

from nmg.base.types import FloatArray


def agreement(differences: FloatArray, n: int) -> float:
    """Probability that n of these examples, drawn without replacement, rank two players as all of them do.

    By the normal approximation to the mean of a sample from a finite population (Cochran, Sampling Techniques, 2.6):
    Φ(|mean| / s), s² = variance / n · (1 - n / N).

    Args:
        differences: float [N], score of one player minus score of the other, of each validation example.
        n: 2 <= n <= N.

    Returns:
        1 with all examples and where all differences are equal; where their mean is 0 there is no rank to agree with,
        and the result is 0.5.
    """
    total = len(differences)
    if not 2 <= n <= total:
        raise ValueError(f"a sample of {n} of {total} examples")
    mean = abs(float(differences.mean()))
    deviation = math.sqrt(float(differences.var(ddof=1)) / n * (1 - n / total))
    if mean == 0:
        return 0.5
    return float(stats.norm.cdf(mean / deviation)) if deviation > 0 else 1.0


def examples_needed(differences: FloatArray, confidence: float) -> int:
    """The smallest n whose `agreement` reaches `confidence` (0.5 < confidence < 1); N where no fewer do."""
    if not 0.5 < confidence < 1:
        raise ValueError(f"a confidence of {confidence}")
    total = len(differences)
    mean, variance = float(differences.mean()), float(differences.var(ddof=1))
    if mean == 0:
        return total
    # agreement = confidence, solved for n
    needed = 1 / ((mean / float(stats.norm.ppf(confidence))) ** 2 / variance + 1 / total) if variance > 0 else 2.0
    return int(np.clip(math.ceil(needed - 1e-9), 2, total))
