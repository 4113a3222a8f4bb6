"""Formats numbers for readers. Sentences and tables use the same rounding."""

import math
from decimal import ROUND_HALF_UP, Decimal

NOISE_DIGITS = 9
"""Number of decimal places kept before rounding; smaller differences are floating-point noise."""


def rounded(value: float, digits: int, sign: str = "") -> str:
    """Return `value` rounded to `digits` decimal places, halves away from zero, with a typographic minus sign.

    Floating-point noise does not change the result: 1.25 and 1.2499999999999998 both give 1.3.

    Args:
        value: the number; may be infinite or NaN.
        digits: number of decimal places.
        sign: "+" puts a plus sign before non-negative numbers; "" does not.

    Returns:
        The number as text.

    >>> rounded(1.25, 1, "+"), rounded(1.2499999999999998, 1), rounded(-0.25, 1)
    ('+1.3', '1.3', '−0.3')
    """
    if not math.isfinite(value):
        return f"{value:{sign}}".replace("-", "−")
    exact = Decimal(f"{value:.{NOISE_DIGITS}f}").quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{exact:{sign}}".replace("-", "−")


def duration_text(seconds: float) -> str:
    """Format a duration, given in seconds, as seconds, minutes or hours with its unit.

    >>> duration_text(59.6), duration_text(754), duration_text(7260)
    ('59.6 s', '12.6 min', '2.0 h')
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
