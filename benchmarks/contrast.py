"""Groups of maskings compared within seeds: the mean of one group's scores less the mean of another's.

    python -m benchmarks.contrast COMPARISON 'learned-0,learned-1' 'rule-0,rule-1' [--metric accuracy]

COMPARISON is a folder that `nmg compare` has written. Several independently learned policies stand for the learner
together, so that the test is of the learner and not of the luckiest of them. `learned-0@35` are a masking's cells of 35
adaptation steps, where there are several numbers. The test is a two-sided paired t test over the seeds that have a
score of every masking named. A second interval is over seeds and test texts, if the trials have the scores of single
texts.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nmg.base.types import FloatArray
from nmg.comparison.statistics import PairedTest, crossed_interval, paired_comparison
from nmg.trials.store import TRIALS, read_trials

Scores = Mapping[str, Mapping[int, float]]
"""masking, and `masking@steps` where its cells have a number of steps → seed → score"""


def read_scores(folder: Path, metric: str) -> Scores:
    """Raises KeyError where a cell has no such metric."""
    scores: dict[str, dict[int, float]] = {}
    for spec, trial in read_trials(folder / TRIALS).items():
        for name in (spec.masking, f"{spec.masking}@{spec.condition.adapt_steps}"):
            of_name = scores.setdefault(name, {})
            # Of several numbers of steps none is meant by the plain name.
            of_name[spec.seed] = trial.scores[metric] if spec.seed not in of_name else float("nan")
    return scores


def contrast(scores: Scores, first: Sequence[str], second: Sequence[str]) -> PairedTest:
    """Of the means of two groups, first − second.

    Raises KeyError for a masking that is not there, and ValueError where a name stands for several numbers of steps.
    """
    means = _means(scores, first, second)
    if not all(np.isfinite(mean).all() for mean in means):
        raise ValueError("some cells differ in their adaptation steps alone: name them, as in learned-0@35")
    return paired_comparison(*means)


def over_texts(folder: Path, metric: str, first: Sequence[str], second: Sequence[str]) -> tuple[float, float] | None:
    """The 95 % interval of first − second over seeds and test texts; None without scores of single texts.

    The names have no number of steps.
    """
    texts: dict[str, dict[int, FloatArray]] = {}
    for spec, trial in read_trials(folder / TRIALS).items():
        if metric in trial.example_scores:
            texts.setdefault(spec.masking, {})[spec.seed] = trial.example_scores[metric]
    if not {*first, *second} <= texts.keys():
        return None
    of_first, of_second = _means(texts, first, second)
    return crossed_interval(of_first - of_second)


def _means(
    scores: Mapping[str, Mapping[int, float | FloatArray]], first: Sequence[str], second: Sequence[str]
) -> list[FloatArray]:
    """The mean of each group for each seed that all maskings named have: [seeds], or [seeds, texts] of single texts."""
    seeds = sorted(set.intersection(*(set(scores[name]) for name in (*first, *second))))
    return [
        np.array([[scores[name][seed] for seed in seeds] for name in group]).mean(axis=0) for group in (first, second)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Groups of maskings compared within seeds.")
    parser.add_argument("comparison", type=Path)
    parser.add_argument("first", type=lambda words: words.split(","))
    parser.add_argument("second", type=lambda words: words.split(","))
    parser.add_argument("--metric", default="accuracy")
    words = parser.parse_args()
    found = contrast(read_scores(words.comparison, words.metric), words.first, words.second)
    p = "–" if found.t_p is None else f"{found.t_p:.2g}"
    interval = "" if found.low is None else f" [{found.low:+.4f}, {found.high:+.4f}]"
    print(
        f"{words.metric}: {found.mean:+.4f}{interval}, p = {p}, n = {found.n}, "
        f"won {found.wins}, tied {found.ties}, lost {found.losses}"
    )
    if (both := over_texts(words.comparison, words.metric, words.first, words.second)) is not None:
        print(f"over seeds and texts: [{both[0]:+.4f}, {both[1]:+.4f}]")


if __name__ == "__main__":
    main()
