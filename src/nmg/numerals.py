"""Numbers as people read them: rounded alike in sentences and in tables."""

import math
from decimal import ROUND_HALF_UP, Decimal

NOISE_DIGITS = 9
"""digits after the point from which a difference is noise of floating-point arithmetic"""


def rounded(value: float, digits: int, sign: str = "") -> str:
    """`value` with `digits` after the point, halves away from 0, a typographic minus.

    0.0125 × 100 and the mean of three such numbers × 100 are 1.25 up to the last bits; both give 1.3. `sign`: "+" puts
    one before numbers from 0.

    >>> rounded(1.25, 1, "+"), rounded(1.2499999999999998, 1), rounded(-0.25, 1)
    ('+1.3', '1.3', '−0.3')
    """
    if not math.isfinite(value):
        return f"{value:{sign}}".replace("-", "−")
    exact = Decimal(f"{value:.{NOISE_DIGITS}f}").quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{exact:{sign}}".replace("-", "−")
