"""Run alternatives in turn, so that a machine that slows down slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping


def alternate(alternatives: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """name → seconds of each round; every alternative runs once before anything counts."""
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for round_ in range(rounds + 1):
        for name, run in alternatives.items():
            start = time.perf_counter()
            run()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """How many times `fast` is as fast: median of the rounds' ratios."""
    return statistics.median(s / f for s, f in zip(seconds[slow], seconds[fast], strict=True))


def median(values: list[float]) -> float:
    return statistics.median(values)
