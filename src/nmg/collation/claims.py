"""What a collator claims about its masks, and exact intervals of what it does.

Intervals are those of Clopper and Pearson (1934). Masked tokens of a row may depend on each other, as in whole words.
The number of tokens is therefore divided by the design effect over rows (Korn and Graubard 1998).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from nmg.base.types import IntArray

CONFIDENCE = 0.999
"""Level of the intervals: a check with a claim is wrong about a sound collator about once in 1000 times."""

Range = tuple[float, float]
"""The lowest and the highest fraction."""


@dataclass(frozen=True)
class Claims:
    """What a collator claims about its masks; None for a property about which it claims nothing."""

    rate: Range | None
    """Fraction of the maskable tokens that are masked."""
    mask_tokens: float | None
    """Fraction of the masked tokens that become the mask token."""
    random_tokens: float | None
    """Fraction of the masked tokens that become a random token."""
    is_fixed: bool
    """Whether the masks are the same in every epoch by design."""

    @classmethod
    def of(cls, collator: Any, rate: float | None) -> Self:
        """Read the claims from the attributes of `MaskingCollator` or of transformers' collators.

        Args:
            collator: the collator.
            rate: the rate that it should have, between 0 and 1; None for the rate that it claims.
        """
        stated: Any = getattr(collator, "rates", None)
        probability = getattr(collator, "mlm_probability", None)
        rates: Range | None = None
        if rate is not None:
            rates = rate, rate
        elif hasattr(stated, "bounds"):
            rates = stated.bounds
        elif probability is not None:
            rates = float(probability), float(probability)
        settings = getattr(collator, "settings", collator)
        shares = [getattr(settings, f"{kind}_replace_prob", None) for kind in ("mask", "random")]
        mask, random = (None if share is None else float(share) for share in shares)
        return cls(rates, mask, random, getattr(collator, "fixed", False) is True)


def interval(counts: IntArray, totals: IntArray) -> Range:
    """Return the interval of the fraction Σ counts / Σ totals.

    Args:
        counts: int64 [R], of each row.
        totals: int64 [R], of each row.

    Returns:
        The lower and the upper end; (0, 1) if all totals are 0.
    """
    from scipy import stats

    total = float(totals.sum())
    if total == 0:
        return 0.0, 1.0
    share = float(counts.sum()) / total
    n_rows, effect = len(totals), 1.0
    if 0.0 < share < 1.0 and n_rows > 1:
        variance = n_rows / (n_rows - 1) * float(((counts - share * totals) ** 2).sum()) / total**2
        effect = max(1.0, variance / (share * (1.0 - share) / total))
    n, tail = total / effect, (1.0 - CONFIDENCE) / 2.0
    low = float(stats.beta.ppf(tail, share * n, n - share * n + 1)) if share > 0.0 else 0.0
    high = float(stats.beta.ppf(1.0 - tail, share * n + 1, n - share * n)) if share < 1.0 else 1.0
    return low, high


def fits_budget(counts: IntArray, totals: IntArray, rate: Range) -> bool:
    """Return whether every row has the rate to the rounding of whole tokens, and at least one token.

    Args:
        counts: int64 [R], masked tokens of each row.
        totals: int64 [R], maskable tokens of each row.
        rate: lowest and highest rate.

    Returns:
        True if every row fits.
    """
    lowest = np.floor(totals * rate[0] + 1e-9)
    highest = np.maximum(np.ceil(totals * rate[1] - 1e-9), 1)
    return bool(((counts >= lowest) & (counts <= highest)).all())
