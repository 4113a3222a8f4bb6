"""What the cells of a comparison say: means with intervals, tests of every pair, costs.

One metric is tested, the first of the task's table, which was fixed before any cell ran. The planned pairs of all
settings are one family for Holm's correction, whatever became of their cells: whatever is called a difference anywhere
in a comparison, the chance that any such call is false is at most 5 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from nmg.comparison.cells import Cell, Setting
from nmg.comparison.circumstances import differing, mixed_seeds
from nmg.comparison.learned import meta_training_seconds
from nmg.comparison.plan import Plan
from nmg.comparison.run import Finished
from nmg.comparison.statistics import ALPHA, CONFIDENCE, POWER, Estimate, PairedTest, estimate, holm, paired_comparison
from nmg.config import Config

HELD_OUT = "held_out_loss"


@dataclass(frozen=True)
class Costs:
    """Means over the cells of a masking."""

    tokens: float
    masked_tokens: float
    adapt: float
    """seconds, those of `masks` included"""
    masks: float
    finetune: float
    total: float


@dataclass(frozen=True)
class MaskingResult:
    """One masking in one setting."""

    masking: str
    scores: Mapping[str, tuple[float, ...]]
    """metric → one score a seed; `held_out_loss` among them where it was measured"""
    estimates: Mapping[str, Estimate]
    n_labelled: float
    """labelled examples, mean over seeds"""
    costs: Costs


@dataclass(frozen=True)
class Pair:
    """first − second on the tested metric, over the seeds that both have."""

    first: str
    second: str
    test: PairedTest
    t_p_holm: float | None = None
    """corrected over all planned pairs of the comparison, or of the grid's family; of `PairedTest.p`"""
    wilcoxon_p_holm: float | None = None
    mixed_seeds: tuple[int, ...] = ()
    """seeds whose two cells were made under different circumstances, and so differ in more than their masks"""

    @property
    def turned(self) -> "Pair":
        """second − first, not corrected."""
        return Pair(self.second, self.first, self.test.turned, mixed_seeds=self.mixed_seeds)

    @property
    def is_tested(self) -> bool:
        """False if there is too little to test: one seed."""
        return self.t_p_holm is not None

    @property
    def differs(self) -> bool:
        """The corrected test finds a difference."""
        return self.t_p_holm is not None and self.t_p_holm < ALPHA


@dataclass(frozen=True)
class SettingResult:
    setting: Setting
    maskings: Sequence[MaskingResult]
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class MetaTrainingCost:
    """What learning a policy took, and for how many adaptations of this comparison."""

    seconds: float
    adaptations: int

    @property
    def amortised(self) -> float:
        """seconds an adaptation"""
        return self.seconds / max(self.adaptations, 1)


@dataclass(frozen=True)
class ComparisonResults:
    config: Config
    metrics: tuple[str, ...]
    """scores in the order of tables; the first is tested"""
    settings: Sequence[SettingResult]
    meta_training: Mapping[str, MetaTrainingCost]
    """masking → cost; of learned maskings that stand in their run's folder"""
    cells: Sequence[Cell]
    failures: Mapping[str, str]
    n_planned: int
    """pairs that were planned, which the correction is over"""

    @property
    def has_policies(self) -> bool:
        """Whether a masking is a learned policy, or a mixture with one."""
        return any(name.startswith("policy ") for cell in self.cells for name in cell.origin)

    @property
    def tested(self) -> str:
        return self.metrics[0]

    @property
    def pairs(self) -> list[Pair]:
        return [pair for setting in self.settings for pair in setting.pairs]

    @property
    def differing(self) -> dict[str, list[str]]:
        """Circumstance → its values, of those that are not the same for all cells."""
        return differing(cell.circumstances for cell in self.cells)

    def to_json(self) -> dict[str, Any]:
        """As results.json has it: no NaN, null where something is not defined."""
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
            "differing_circumstances": self.differing,
            "cells": [asdict(cell) for cell in self.cells],
        }


def analyse(config: Config, plan: Plan, metrics: tuple[str, ...], finished: Finished) -> ComparisonResults:
    """`metrics`: the task's, in the order of its table; `config`: the settings as cells ran under them."""
    settings = [_analyse_setting(setting, plan.names, metrics, finished.cells) for setting in plan.settings]
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
    setting: Setting, names: Sequence[str], metrics: tuple[str, ...], cells: Sequence[Cell]
) -> SettingResult:
    by_masking = {name: {c.seed: c for c in cells if c.masking == name and _is_in(c, setting)} for name in names}
    by_masking = {name: of_masking for name, of_masking in by_masking.items() if of_masking}
    return SettingResult(
        setting,
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


def _is_in(cell: Cell, setting: Setting) -> bool:
    """`none` has no steps, and stands beside the others whatever theirs are."""
    return cell.labelled == setting.labelled and (cell.masking == "none" or cell.adapt_steps == setting.adapt_steps)


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
    """The same with Holm's correction over the planned pairs of all settings, for each of the two tests."""
    corrected = iter(as_family([pair for result in settings for pair in result.pairs], n_planned))
    return [SettingResult(r.setting, r.maskings, [next(corrected) for _ in r.pairs]) for r in settings]


def as_family(pairs: Sequence[Pair], n_planned: int) -> list[Pair]:
    """The same with Holm's correction over all planned pairs, those at hand among them, for each of the two tests."""
    by_t = holm([pair.test.p for pair in pairs], n_planned)
    by_ranks = holm([pair.test.wilcoxon_p for pair in pairs], n_planned)
    return [
        replace(pair, t_p_holm=t_p, wilcoxon_p_holm=wilcoxon_p)
        for pair, t_p, wilcoxon_p in zip(pairs, by_t, by_ranks, strict=True)
    ]


def pair_json(pair: Pair) -> dict[str, Any]:
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
    return {**asdict(result.setting), "maskings": maskings, "pairs": pairs}
