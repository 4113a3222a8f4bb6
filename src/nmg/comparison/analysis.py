"""Computes the results of a comparison from its trials: means with intervals, tests, costs.

One metric of each part is tested: the first of the task's table, which was fixed before any trial ran. All planned
tests of the same metric form one family for Holm's correction, whether or not their trials succeeded. The probability
of any false positive in a family is at most 5 %.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from nmg.base.trial import Condition, TrialResult, TrialSpec
from nmg.base.types import FloatArray
from nmg.comparison.environment import mixed_seeds
from nmg.comparison.learned import equal_rule, meta_training_seconds
from nmg.comparison.parts import Part
from nmg.comparison.results import (
    HELD_OUT,
    ComparisonResults,
    Costs,
    MaskingResult,
    MetaTrainingCost,
    Pair,
    PartResults,
    SettingResult,
    trial_json,
)
from nmg.comparison.run import Finished
from nmg.comparison.statistics import crossed_interval, estimate, holm, paired_comparison
from nmg.policies.maskings import CONTROLS


def analyse(part: Part, metrics: tuple[str, ...], finished: Finished) -> PartResults:
    """Compute means, costs and the differences of all pairs of maskings from the finished trials of a part.

    Args:
        part: The part, with the settings and the plan that its trials ran under.
        metrics: The metrics of the task, in the order of its table.
        finished: The results of the successful trials, and the failures.

    Returns:
        The results without Holm's correction, which `compared` makes.
    """
    plan, cells = part.plan, finished.cells
    rules = {name: equal_rule(folder) for name, folder in plan.learned.items() if name not in CONTROLS}
    settings = [_analyse_setting(part, metrics, condition, cells, rules) for condition in plan.settings]
    costs = {}
    for name, folder in plan.learned.items():
        seconds = meta_training_seconds(folder)
        if seconds is not None:
            of_policy = [cell.spec for cell in cells if cell.spec.masking == name]
            served = {(spec.seed, spec.condition.adapt_steps, spec.condition.lora_rank) for spec in of_policy}
            costs[name] = MetaTrainingCost(seconds, len(served))
    return PartResults(part, settings, costs, cells, finished.failures)


def compared(
    parts: Sequence[PartResults],
    baseline: str | None = None,
    failed_parts: Iterable[tuple[Part, str]] = (),
) -> ComparisonResults:
    """Test all pairs or, with a baseline, each masking against it, with Holm's correction in each family.

    Args:
        parts: The analysed parts.
        baseline: The name of the baseline; None tests all pairs.
        failed_parts: (part, what went wrong), for each part that failed as a whole.

    Returns:
        The results, with one family per tested metric.
    """
    failed = list(failed_parts)
    chosen = [
        replace(setting, pairs=_against(baseline, setting.pairs) if baseline else setting.pairs)
        for one in parts
        for setting in one.settings
    ]
    families = {}
    for metric in dict.fromkeys(setting.tested for setting in chosen):
        members = [setting for setting in chosen if setting.tested == metric]
        # The metric of a failed part is unknown: count it in every family that has a part with its task.
        tasks = {setting.part.config.data.task for setting in members}
        lost = [part for part, _ in failed if part.config.data.task in tasks]
        planned = [setting.part for setting in members] + [part for part in lost for _ in part.plan.settings]
        families[metric] = sum(_n_tests(part, baseline) for part in planned)
        corrected = iter(holm_corrected([pair for setting in members for pair in setting.pairs], families[metric]))
        chosen = [
            replace(setting, pairs=[next(corrected) for _ in setting.pairs]) if setting.tested == metric else setting
            for setting in chosen
        ]
    queue = iter(chosen)
    done = [replace(one, settings=[next(queue) for _ in one.settings]) for one in parts]
    planned_parts = [*(one.part for one in parts), *(part for part, _ in failed)]
    return ComparisonResults(planned_parts, done, baseline, families, {part.name: why for part, why in failed})


def _n_tests(part: Part, baseline: str | None) -> int:
    """Return the number of planned tests of a part in one condition."""
    n_maskings = len(part.plan.names)
    return math.comb(n_maskings, 2) if baseline is None else n_maskings - 1


def _against(baseline: str, pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs that have the baseline, each as the difference masking − baseline."""
    of_baseline = (pair for pair in pairs if baseline in (pair.first, pair.second))
    return [pair if pair.second == baseline else pair.reversed_ for pair in of_baseline]


def _analyse_setting(
    part: Part,
    metrics: tuple[str, ...],
    condition: Condition,
    cells: Sequence[TrialResult],
    rules: Mapping[str, str | None],
) -> SettingResult:
    here = [cell for cell in cells if _is_in(cell.spec, condition)]
    by_masking = {name: {one.spec.seed: one for one in here if one.spec.masking == name} for name in part.plan.names}
    by_masking = {name: of_masking for name, of_masking in by_masking.items() if of_masking}
    without_texts = _without_texts(part, here, metrics[0])
    return SettingResult(
        part,
        metrics,
        condition,
        [
            replace(_analyse_masking(name, list(of_masking.values()), metrics), rule=rules.get(name))
            for name, of_masking in by_masking.items()
        ],
        [
            replace(
                _pair(later, earlier, by_masking, metrics[0], over_texts=without_texts is None),
                margin=part.config.test.margin / 100,
            )
            for earlier, later in combinations(by_masking, 2)
            if set(by_masking[earlier]) & set(by_masking[later])
        ],
        without_texts,
    )


def _without_texts(part: Part, cells: Sequence[TrialResult], metric: str) -> str | None:
    """Return why there is no interval over other texts, or None if every trial has the scores of single texts."""
    if part.config.data.test_examples is not None:
        return "each seed is scored on another sample of the test set (data.test_examples)"
    if any(metric not in cell.example_scores for cell in cells):
        return f"{metric} is a score of the whole test set, not a mean over its texts"
    return None


def _is_in(spec: TrialSpec, condition: Condition) -> bool:
    """Return whether the trial is one of the condition; `none` does not adapt, so only its labels must be the same."""
    if spec.masking == "none":
        return spec.condition.labelled == condition.labelled
    return spec.condition == condition


def _analyse_masking(name: str, cells: Sequence[TrialResult], metrics: tuple[str, ...]) -> MaskingResult:
    scores = {metric: tuple(cell.scores[metric] for cell in cells) for metric in metrics}
    held_out = tuple(cell.held_out_loss for cell in cells if cell.held_out_loss is not None)
    if held_out:
        scores[HELD_OUT] = held_out

    facts = [trial_json(cell) for cell in cells]

    def mean(name: str) -> float:
        return float(np.mean([one[name] for one in facts]))

    def seconds(phase: str) -> float:
        return float(np.mean([one["seconds"][phase] for one in facts]))

    return MaskingResult(
        masking=name,
        scores=scores,
        estimates={metric: estimate(np.array(values)) for metric, values in scores.items()},
        n_labelled=mean("n_labelled"),
        costs=Costs(
            tokens=mean("tokens"),
            masked_tokens=mean("masked_tokens"),
            adapt=seconds("adapt"),
            masks=seconds("masks"),
            finetune=seconds("finetune"),
            total=seconds("total"),
        ),
    )


def _pair(
    first: str, second: str, by_masking: Mapping[str, Mapping[int, TrialResult]], metric: str, *, over_texts: bool
) -> Pair:
    """Return the difference of two maskings over the seeds that both have.

    Args:
        first: Name of a masking.
        second: Name of the masking to subtract.
        by_masking: Name of a masking → seed → trial.
        metric: The tested metric.
        over_texts: Whether every trial has the scores of the same test texts.

    Returns:
        The difference with its tests.
    """
    shared = [seed for seed in by_masking[first] if seed in by_masking[second]]
    cells = [[by_masking[name][seed] for seed in shared] for name in (first, second)]
    return Pair(
        first,
        second,
        paired_comparison(*(np.array([cell.scores[metric] for cell in one]) for one in cells)),
        mixed_seeds=mixed_seeds(by_masking[first], by_masking[second]),
        seeds_and_texts=crossed_interval(_of_texts(cells[0], metric) - _of_texts(cells[1], metric))
        if over_texts
        else None,
    )


def _of_texts(cells: Sequence[TrialResult], metric: str) -> FloatArray:
    """Return the scores of single texts, float64 [trials, texts]."""
    return np.stack([cell.example_scores[metric] for cell in cells])


def holm_corrected(pairs: Sequence[Pair], n_planned: int) -> list[Pair]:
    """Return copies of `pairs` with Holm's correction over all `n_planned` pairs, for each of the two tests."""
    by_t = holm([pair.test.p for pair in pairs], n_planned)
    by_ranks = holm([pair.test.wilcoxon_p for pair in pairs], n_planned)
    return [
        replace(pair, t_p_holm=t_p, wilcoxon_p_holm=wilcoxon_p)
        for pair, t_p, wilcoxon_p in zip(pairs, by_t, by_ranks, strict=True)
    ]
