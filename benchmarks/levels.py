"""Does each number of audit, experiment, gate and comparison hold its level? Worlds in which the truth is known.

    python -m benchmarks.levels [--quick] [--only WORD] [--out levels.md]

A world draws scores; the functions that nmg itself uses say what they find. Printed is how often that is right, with an
exact binomial (Clopper-Pearson) interval, beside the level that is claimed.
"""

import argparse
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from scipy import stats

Trial: TypeAlias = Callable[[np.random.Generator], bool]
"""one world: whether the number says what `Claim.says` names"""

QUICK = 40
"""worlds of a claim, where it must be fast"""


@dataclass(frozen=True)
class Claim:
    """A number and its level in one kind of world."""

    number: str
    world: str
    says: str
    """what is counted"""
    trial: Trial
    most: float | None = None
    """the share is claimed to be at most this"""
    least: float | None = None
    """or at least this; without either it is a power, which nothing claims"""
    worlds: int = 1000

    @property
    def level(self) -> str:
        if self.most is not None:
            return f"≤ {100 * self.most:g} %"
        return "–" if self.least is None else f"≥ {100 * self.least:g} %"


@dataclass(frozen=True)
class Observed:
    claim: Claim
    hits: int
    worlds: int

    @property
    def share(self) -> float:
        return self.hits / self.worlds

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Clopper-Pearson."""
        found = stats.binomtest(self.hits, self.worlds).proportion_ci(confidence, "exact")
        return float(found.low), float(found.high)

    def holds(self, confidence: float = 0.95) -> bool:
        """Whether the interval allows for the level that is claimed."""
        low, high = self.interval(confidence)
        is_low = self.claim.least is not None and high < self.claim.least
        return not is_low and not (self.claim.most is not None and low > self.claim.most)


def observe(claim: Claim, worlds: int | None = None) -> Observed:
    """Draw the worlds of a claim, the same ones each time."""
    rng = np.random.default_rng(zlib.crc32(f"{claim.number}/{claim.world}/{claim.says}".encode()))
    n = min(claim.worlds, worlds or claim.worlds)
    return Observed(claim, sum(bool(claim.trial(rng)) for _ in range(n)), n)


def all_claims() -> list[Claim]:
    from benchmarks import audit_levels, comparison_levels, experiment_levels

    return [*audit_levels.claims(), *experiment_levels.claims(), *comparison_levels.claims()]


def rows(observed: Sequence[Observed]) -> Iterator[str]:
    yield "| number | world | counted | claimed | observed | 95 % | worlds | |"
    yield "|---|---|---|---:|---:|---:|---:|---|"
    for one in observed:
        claim, (low, high) = one.claim, one.interval()
        verdict = "" if claim.level == "–" else "holds" if one.holds() else "**does not hold**"
        interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
        words = (claim.number, claim.world, claim.says, claim.level, f"{100 * one.share:.1f} %", interval)
        yield f"| {' | '.join(words)} | {one.worlds} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} worlds a claim: seconds")
    parser.add_argument("--only", default="", help="claims whose number holds this word")
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    settings = parser.parse_args()
    observed = []
    for claim in all_claims():
        if settings.only in claim.number:
            observed.append(observe(claim, QUICK if settings.quick else None))
            print(list(rows(observed[-1:]))[-1], flush=True)
    if settings.out is not None:
        settings.out.write_text("\n".join(rows(observed)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
