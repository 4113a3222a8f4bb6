"""Numbers of audit, experiment and comparison hold their levels in worlds whose truth is known; a few fixed worlds."""

import pytest

from benchmarks.levels import Claim, Observed, all_claims, observe, rows

WORLDS = 60
CONFIDENCE = 0.999
"""of some fifty claims none fails by chance"""
FAST = [claim for claim in all_claims() if claim.level != "–" and "whole run" not in claim.world]
SLOW = ("compare: t_p_holm", "experiment: placebo_length")


@pytest.mark.parametrize(
    "claim",
    [pytest.param(one, marks=pytest.mark.slow) if one.number in SLOW else one for one in FAST],
    ids=lambda claim: f"{claim.number}-{claim.world}-{claim.says}",
)
def test_a_number_holds_its_level(claim: Claim):
    found = observe(claim, WORLDS)
    assert found.holds(CONFIDENCE), list(rows([found]))[-1]


def test_the_verdict_is_that_of_an_exact_interval():
    """Of 60 worlds, 8 are above 5 % for sure; 7 may be chance."""

    def seen(hits: int, **level: float) -> Observed:
        return Observed(Claim("p", "none", "p < 0.05", lambda _rng: True, **level), hits, 60)

    assert seen(7, most=0.05).holds()
    assert not seen(8, most=0.05).holds()
    assert seen(8, most=0.05).holds(0.999)
    assert seen(60, least=0.95).holds()
    assert not seen(52, least=0.95).holds()
    assert seen(0).holds(), "a power that nothing claims"
    low, high = seen(0, most=0.05).interval()
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 60)))
    assert list(rows([seen(8, most=0.05)]))[-1].endswith("| ≤ 5 % | 13.3 % | [5.9, 24.6] | 60 | **does not hold** |")
