"""The results of a comparison: means with intervals, tests of every pair, costs.

One metric is tested: the first of the task's table, which was fixed before any cell ran. The planned pairs of all
settings form one family for Holm's correction, whether or not their cells succeeded. The probability of any false
positive in a comparison is at most 5 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from nmg.comparison.environment import differing, mixed_seeds
from nmg.comparison.learned import meta_training_seconds
from nmg.comparison.plan import Plan
from nmg.comparison.run import Finished
from nmg.comparison.statistics import ALPHA, CONFIDENCE, POWER, Estimate, PairedTest, estimate, holm, paired_comparison
from nmg.comparison.trials import Cell, Condition
from nmg.config import Config

HELD_OUT = "held_out_loss"


@dataclass(frozen=True)
class Costs:
    """Mean costs over the cells of a masking."""

    tokens: float
    """Number of tokens read in the adaptation."""
    masked_tokens: float
    """Number of tokens masked in the adaptation."""
    adapt: float
    """Wall time of the adaptation in seconds, including `masks`."""
    masks: float
    """Wall time of drawing masks, in seconds."""
    finetune: float
    """Wall time of the fine-tuning, in seconds."""
    total: float
    """Total wall time, in seconds."""


@dataclass(frozen=True)
class MaskingResult:
    """The results of one masking in one condition."""

    masking: str
    scores: Mapping[str, tuple[float, ...]]
    """Metric → one score per seed; includes `held_out_loss` if it was measured."""
    estimates: Mapping[str, Estimate]
    """Metric → mean over seeds with its interval."""
    n_labelled: float
    """Mean number of labelled examples over seeds."""
    costs: Costs


@dataclass(frozen=True)
class Pair:
    """The difference first − second on the tested metric, over the seeds that both have."""

    first: str
    second: str
    test: PairedTest
    t_p_holm: float | None = None
    """`PairedTest.p`, corrected over all planned pairs of the comparison or of the grid's family; None for one seed."""
    wilcoxon_p_holm: float | None = None
    """p value of the signed-rank test, corrected in the same way."""
    mixed_seeds: tuple[int, ...] = ()
    """Seeds whose two cells were made in different environments, so that they differ in more than their masks."""

    @property
    def reversed_(self) -> "Pair":
        """The difference second − first, not corrected."""
        return Pair(self.second, self.first, self.test.reversed_, mixed_seeds=self.mixed_seeds)

    @property
    def is_tested(self) -> bool:
        """Whether the pair has a corrected p value; False if there is only one seed."""
        return self.t_p_holm is not None

    @property
    def differs(self) -> bool:
        """Whether the corrected test finds a difference."""
        return self.t_p_holm is not None and self.t_p_holm < ALPHA


@dataclass(frozen=True)
class SettingResult:
    """The results of all maskings in one condition."""

    condition: Condition
    maskings: Sequence[MaskingResult]
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class MetaTrainingCost:
    """The cost of learning a policy, and the number of adaptations of this comparison that used it."""

    seconds: float
    """Wall time of the meta-training, in seconds."""
    adaptations: int

    @property
    def amortised(self) -> float:
        """Seconds of meta-training per adaptation."""
        return self.seconds / max(self.adaptations, 1)


@dataclass(frozen=True)
class ComparisonResults:
    """Everything that a comparison reports."""

    config: Config
    metrics: tuple[str, ...]
    """Scores in the order of tables; the first one is tested."""
    settings: Sequence[SettingResult]
    meta_training: Mapping[str, MetaTrainingCost]
    """Masking → cost, for learned maskings that are stored in the folder of their run."""
    cells: Sequence[Cell]
    failures: Mapping[str, str]
    """Name of a failed cell → what went wrong."""
    n_planned: int
    """Number of planned pairs, over which the correction is made."""

    @property
    def has_policies(self) -> bool:
        """Whether a masking is a learned policy, or a mixture with one."""
        return any(name.startswith("policy ") for cell in self.cells for name in cell.provenance)

    @property
    def tested(self) -> str:
        """The metric that is tested."""
        return self.metrics[0]

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of all settings."""
        return [pair for condition in self.settings for pair in condition.pairs]

    @property
    def differing(self) -> dict[str, list[str]]:
        """Environment properties that are not the same for all cells, each with its values."""
        return differing(cell.environment for cell in self.cells)

    def to_json(self) -> dict[str, Any]:
        """The content of results.json; undefined values are null, never NaN."""
        return {
            "settings": self.config.model_dump(mode="json"),
            "metrics": list(self.metrics),
            "tested_metric": self.tested,
            "n_planned": self.n_planned,
            "confidence": CONFIDENCE,
            "alpha": ALPHA,
            "power": POWER,
            "results": [_setting_json(result) for result in self.settings],
            "meta_training": {
                name: asdict(cost) | {"seconds_an_adaptation": cost.amortised}
                for name, cost in self.meta_training.items()
            },
            "failures": dict(self.failures),
            "environment_mismatch": self.differing,
            "cells": [asdict(cell) for cell in self.cells],
        }


def analyse(config: Config, plan: Plan, metrics: tuple[str, ...], finished: Finished) -> ComparisonResults:
    """Compute means, tests and costs from the finished cells.

    Args:
        config: The settings that the cells ran under.
        plan: The planned cells.
        metrics: The metrics of the task, in the order of its table.
        finished: The finished and the failed cells.

    Returns:
        The results, with Holm's correction over the planned pairs of all settings.
    """
    settings = [_analyse_setting(condition, plan.names, metrics, finished.cells) for condition in plan.settings]
    costs = {}
    for name, folder in plan.learned.items():
        seconds = meta_training_seconds(folder)
        if seconds is not None:
            served = {(cell.seed, cell.adapt_steps) for cell in finished.cells if cell.masking == name}
            costs[name] = MetaTrainingCost(seconds, len(served))
    n_planned = len(plan.settings) * math.comb(len(plan.names), 2)
    corrected = _corrected(settings, n_planned)
    return ComparisonResults(config, metrics, corrected, costs, finished.cells, finished.failures, n_planned)


def _analyse_setting(
    condition: Condition, names: Sequence[str], metrics: tuple[str, ...], cells: Sequence[Cell]
) -> SettingResult:
    by_masking = {name: {c.seed: c for c in cells if c.masking == name and _is_in(c, condition)} for name in names}
    by_masking = {name: of_masking for name, of_masking in by_masking.items() if of_masking}
    return SettingResult(
        condition,
        [_analyse_masking(name, list(of_masking.values()), metrics) for name, of_masking in by_masking.items()],
        [
            Pair(
                later,
                earlier,
                _paired(by_masking[later], by_masking[earlier], metrics[0]),
                mixed_seeds=mixed_seeds(by_masking[later], by_masking[earlier]),
            )
            for earlier, later in combinations(by_masking, 2)
            if set(by_masking[earlier]) & set(by_masking[later])
        ],
    )


def _is_in(cell: Cell, condition: Condition) -> bool:
    """Whether the cell belongs to the setting; `none` has no steps and belongs to the settings of all steps."""
    return cell.labelled == condition.labelled and (cell.masking == "none" or cell.adapt_steps == condition.adapt_steps)


def _analyse_masking(name: str, cells: Sequence[Cell], metrics: tuple[str, ...]) -> MaskingResult:
    scores = {metric: tuple(cell.scores[metric] for cell in cells) for metric in metrics}
    held_out = tuple(cell.held_out_loss for cell in cells if cell.held_out_loss is not None)
    if held_out:
        scores[HELD_OUT] = held_out

    def seconds(phase: str) -> float:
        return float(np.mean([cell.seconds[phase] for cell in cells]))

    return MaskingResult(
        masking=name,
        scores=scores,
        estimates={metric: estimate(np.array(values)) for metric, values in scores.items()},
        n_labelled=float(np.mean([cell.n_labelled for cell in cells])),
        costs=Costs(
            tokens=float(np.mean([cell.tokens for cell in cells])),
            masked_tokens=float(np.mean([cell.masked_tokens for cell in cells])),
            adapt=seconds("adapt"),
            masks=seconds("masks"),
            finetune=seconds("finetune"),
            total=seconds("total"),
        ),
    )


def _paired(first: Mapping[int, Cell], second: Mapping[int, Cell], metric: str) -> PairedTest:
    seeds = [seed for seed in first if seed in second]
    return paired_comparison(
        np.array([first[seed].scores[metric] for seed in seeds]),
        np.array([second[seed].scores[metric] for seed in seeds]),
    )


def _corrected(settings: Sequence[SettingResult], n_planned: int) -> list[SettingResult]:
    """The results with Holm's correction over the planned pairs of all settings, for each of the two tests."""
    corrected = iter(holm_corrected([pair for result in settings for pair in result.pairs], n_planned))
    return [SettingResult(r.condition, r.maskings, [next(corrected) for _ in r.pairs]) for r in settings]


def holm_corrected(pairs: Sequence[Pair], n_planned: int) -> list[Pair]:
    """Copies of `pairs` with Holm's correction over all `n_planned` pairs, for each of the two tests."""
    by_t = holm([pair.test.p for pair in pairs], n_planned)
    by_ranks = holm([pair.test.wilcoxon_p for pair in pairs], n_planned)
    return [
        replace(pair, t_p_holm=t_p, wilcoxon_p_holm=wilcoxon_p)
        for pair, t_p, wilcoxon_p in zip(pairs, by_t, by_ranks, strict=True)
    ]


def pair_json(pair: Pair) -> dict[str, Any]:
    """The entry of a pair in results.json and grid.json."""
    return (
        {"first": pair.first, "second": pair.second}
        | asdict(pair.test)
        | {
            "seeds_still_needed": pair.test.seeds_still_needed,
            "t_p_holm": pair.t_p_holm,
            "wilcoxon_p_holm": pair.wilcoxon_p_holm,
            "mixed_seeds": list(pair.mixed_seeds),
        }
    )


def _setting_json(result: SettingResult) -> dict[str, Any]:
    pairs = [pair_json(pair) for pair in result.pairs]
    maskings = [
        {"masking": one.masking, "n_labelled": one.n_labelled}
        | {"metrics": {metric: asdict(value) for metric, value in one.estimates.items()}, "costs": asdict(one.costs)}
        for one in result.maskings
    ]
    return {**asdict(result.condition), "maskings": maskings, "pairs": pairs}
