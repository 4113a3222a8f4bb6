"""The results of a comparison with one or several parts, and the content of results.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nmg.base.trial import Condition, TrialResult
from nmg.comparison.environment import differing
from nmg.comparison.parts import Part
from nmg.comparison.statistics import ALPHA, CONFIDENCE, POWER, Estimate, PairedTest

HELD_OUT = "held_out_loss"


@dataclass(frozen=True)
class Costs:
    """Mean costs over the trials of a masking."""

    tokens: float
    """Number of tokens read in the adaptation."""
    masked_tokens: float
    """Number of tokens masked in the adaptation."""
    adapt: float
    """Wall time of the adaptation in seconds, including `masks`."""
    masks: float
    """Wall time of drawing masks, in seconds."""
    finetune: float
    """Wall time of fine-tuning, in seconds."""
    total: float
    """Total wall time, in seconds."""


@dataclass(frozen=True)
class MaskingResult:
    """The results of one masking in one condition."""

    masking: str
    """Name of the masking."""
    scores: Mapping[str, tuple[float, ...]]
    """Metric → one score per seed; includes `held_out_loss` if it was measured."""
    estimates: Mapping[str, Estimate]
    """Metric → mean over seeds with its interval."""
    n_labelled: float
    """Mean number of labelled examples over seeds."""
    costs: Costs
    rule: str | None = None
    """The rule that a learned policy equals, in words; None for others."""

    @property
    def title(self) -> str:
        """The name in tables: a policy that is a rule is shown as that rule."""
        return self.masking if self.rule in {None, self.masking} else f"{self.masking} ({self.rule})"


@dataclass(frozen=True)
class Pair:
    """The difference first − second on the tested metric, over the seeds that both have."""

    first: str
    second: str
    test: PairedTest
    t_p_holm: float | None = None
    """`PairedTest.p` with Holm's correction over all planned tests of the metric; None for one seed."""
    wilcoxon_p_holm: float | None = None
    """p value of the signed-rank test with the same correction; None for one seed."""
    mixed_seeds: tuple[int, ...] = ()
    """Seeds whose two trials ran in different environments and thus differ in more than their masks."""
    seeds_and_texts: tuple[float, float] | None = None
    """95 % interval of the difference over other seeds and other test texts (`crossed_interval`); None without scores
    of single texts."""
    margin: float = 0.0
    """Largest difference that does not matter (`test.margin`), as a fraction."""

    @property
    def reversed_(self) -> "Pair":
        """The difference second − first, without corrected p values."""
        both = self.seeds_and_texts and (0.0 - self.seeds_and_texts[1], 0.0 - self.seeds_and_texts[0])
        return replace(
            self,
            first=self.second,
            second=self.first,
            test=self.test.reversed_,
            t_p_holm=None,
            wilcoxon_p_holm=None,
            seeds_and_texts=both,
        )

    @property
    def is_tested(self) -> bool:
        """Whether the pair has a corrected p value; False if there is only one seed."""
        return self.t_p_holm is not None

    @property
    def differs(self) -> bool:
        """Whether the corrected p value is below `ALPHA`, which is about other seeds only."""
        return self.t_p_holm is not None and self.t_p_holm < ALPHA

    @property
    def is_equal(self) -> bool:
        """Whether the two are practically equal: the interval over seeds and texts is within ± `margin`, above 0."""
        both = self.seeds_and_texts
        return self.margin > 0 and both is not None and -self.margin <= both[0] and both[1] <= self.margin

    @property
    def is_shown(self) -> bool:
        """Whether the scores show a difference that matters, over other seeds, and over other texts if measured."""
        return self.differs and not self.is_equal and not self.may_be_texts

    @property
    def may_be_texts(self) -> bool:
        """Whether the interval over seeds and texts contains 0."""
        return self.seeds_and_texts is not None and self.seeds_and_texts[0] <= 0 <= self.seeds_and_texts[1]


@dataclass(frozen=True)
class SettingResult:
    """The results of all maskings of one part in one condition."""

    part: Part
    metrics: tuple[str, ...]
    """Scores in the order of tables; the first one is tested."""
    condition: Condition
    maskings: Sequence[MaskingResult]
    pairs: Sequence[Pair]
    without_texts: str | None = None
    """Why there is no interval over other texts, as a clause; None if there is one."""

    @property
    def tested(self) -> str:
        """The metric that is tested."""
        return self.metrics[0]

    @property
    def has_texts(self) -> bool:
        """Whether a pair has an interval over seeds and texts."""
        return any(pair.seeds_and_texts is not None for pair in self.pairs)

    @property
    def n_labelled(self) -> int | None:
        """The rounded mean number of labelled examples; None if it differs between maskings."""
        counts = {round(one.n_labelled) for one in self.maskings}
        return counts.pop() if len(counts) == 1 else None


@dataclass(frozen=True)
class MetaTrainingCost:
    """The cost of meta-training a policy, and the number of adaptations of this comparison that used the policy."""

    seconds: float
    """Wall time of the meta-training, in seconds."""
    adaptations: int

    @property
    def amortised(self) -> float:
        """Seconds of meta-training per adaptation."""
        return self.seconds / max(self.adaptations, 1)


@dataclass(frozen=True)
class PartResults:
    """The results of one part."""

    part: Part
    settings: Sequence[SettingResult]
    meta_training: Mapping[str, MetaTrainingCost]
    """Masking → cost, for policies that are stored in the folder of the run that produced them."""
    cells: Sequence[TrialResult]
    failures: Mapping[str, str]
    """Name of a failed trial → what went wrong."""

    @property
    def has_policies(self) -> bool:
        """Whether a masking is a learned policy, or a mixture with one."""
        return any(name.startswith("policy ") for cell in self.cells for name in cell.provenance)

    @property
    def differing(self) -> dict[str, list[str]]:
        """Environment properties that differ between trials, each with its values."""
        return differing(cell.environment for cell in self.cells)

    def alone(self) -> "PartResults":
        """Return the results with the empty part name that a comparison with a single part has."""
        part = replace(self.part, name="")
        return replace(self, part=part, settings=[replace(setting, part=part) for setting in self.settings])


@dataclass(frozen=True)
class ComparisonResults:
    """Everything that a comparison reports."""

    planned: Sequence[Part]
    parts: Sequence[PartResults]
    """The results, without parts that failed as a whole."""
    baseline: str | None
    """The masking that all others are tested against; None tests every pair."""
    families: Mapping[str, int]
    """Tested metric → number of planned tests, over which the correction is made."""
    failed_parts: Mapping[str, str]
    """Name of a part that failed as a whole → what went wrong."""

    @property
    def is_grid(self) -> bool:
        """Whether the comparison is a grid, whose parts have names and folders."""
        return bool(self.planned[0].name)

    @property
    def is_external(self) -> bool:
        """Whether runs made elsewhere gave the scores."""
        return self.planned[0].is_external

    @property
    def settings(self) -> list[SettingResult]:
        """The results of all parts in all conditions."""
        return [setting for one in self.parts for setting in one.settings]

    def family(self, metric: str) -> list[SettingResult]:
        """The results of all parts that are scored by `metric`."""
        return [setting for setting in self.settings if setting.tested == metric]

    @property
    def pairs(self) -> list[Pair]:
        """The tested pairs of all parts."""
        return [pair for setting in self.settings for pair in setting.pairs]

    @property
    def cells(self) -> list[TrialResult]:
        """The successful trials of all parts."""
        return [cell for one in self.parts for cell in one.cells]

    @property
    def failures(self) -> dict[str, str]:
        """Name of a failed part or trial → what went wrong.

        The name is 'PART' or 'PART/TRIAL'; it is 'TRIAL' if the part has no name.
        """
        of_cells = {
            f"{one.part.name}/{cell}".lstrip("/"): problem
            for one in self.parts
            for cell, problem in one.failures.items()
        }
        return {**self.failed_parts, **of_cells}

    def to_json(self) -> dict[str, Any]:
        """Return the content of results.json; undefined values are None, never NaN."""
        return {
            "baseline": self.baseline,
            "confidence": CONFIDENCE,
            "alpha": ALPHA,
            "power": POWER,
            "families": [{"metric": metric, "n_planned": n_planned} for metric, n_planned in self.families.items()],
            "parts": [_part_json(one) for one in self.parts],
            "results": [_setting_json(setting) for setting in self.settings],
            "failures": self.failures,
            "cells": [{"part": one.part.name, **trial_json(cell)} for one in self.parts for cell in one.cells],
        }


def _part_json(one: PartResults) -> dict[str, Any]:
    part = one.part
    return {
        "name": part.name,
        "data": part.data,
        "model": part.model,
        "left_out": list(part.left_out),
        "is_external": part.is_external,
        "settings": part.config.model_dump(mode="json", include={"test": {"margin"}} if part.is_external else None),
        "meta_training": {
            name: asdict(cost) | {"seconds_an_adaptation": cost.amortised} for name, cost in one.meta_training.items()
        },
        "environment_mismatch": one.differing,
    }


def trial_json(trial: TrialResult) -> dict[str, Any]:
    """Return the entry of a trial in results.json, which includes the columns of results.csv."""
    seconds = {**trial.phase_seconds, "total": trial.total_seconds}
    return {
        "masking": trial.spec.masking,
        "seed": trial.spec.seed,
        "scores": dict(trial.scores),
        "lm_loss": trial.adaptation.loss,
        "lm_steps": trial.adaptation.steps,
        "task_steps": trial.finetuning.steps,
        "masked_tokens": trial.adaptation.masked_tokens,
        "seconds": seconds | {phase: trial.seconds.get(phase, 0.0) for phase in ("masks", "held_out")},
        **asdict(trial.spec.condition),
        "n_labelled": trial.n_labelled,
        "tokens": trial.adaptation.tokens,
        "held_out_loss": trial.held_out_loss,
        "provenance": dict(trial.provenance),
        "environment": dict(trial.environment),
    }


def _setting_json(result: SettingResult) -> dict[str, Any]:
    maskings = [
        {"masking": one.masking, "rule": one.rule, "n_labelled": one.n_labelled}
        | {"metrics": {metric: asdict(value) for metric, value in one.estimates.items()}, "costs": asdict(one.costs)}
        for one in result.maskings
    ]
    where = {"part": result.part.name, "metrics": list(result.metrics), "tested_metric": result.tested}
    found = {"maskings": maskings, "pairs": [_pair_json(p) for p in result.pairs]}
    return {**where, **asdict(result.condition), **found, "without_texts": result.without_texts}


def _pair_json(pair: Pair) -> dict[str, Any]:
    corrected = {name: getattr(pair, name) for name in ("t_p_holm", "wilcoxon_p_holm")}
    low, high = pair.seeds_and_texts or (None, None)
    facts = {"seeds_still_needed": pair.test.seeds_still_needed, **corrected, "mixed_seeds": list(pair.mixed_seeds)}
    facts |= {"seeds_and_texts": {"low": low, "high": high}, "is_shown": pair.is_shown, "is_equal": pair.is_equal}
    return {"first": pair.first, "second": pair.second, **asdict(pair.test), **facts}
