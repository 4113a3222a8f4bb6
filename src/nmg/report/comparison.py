"""Tables of a comparison, and a one-paragraph summary generated from its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nmg.comparison.environment import described
from nmg.comparison.results import HELD_OUT, ComparisonResults, MaskingResult, MetaTrainingCost, Pair, SettingResult
from nmg.comparison.statistics import Estimate, PairedTest
from nmg.comparison.trials import Condition
from nmg.report.document import Table
from nmg.report.numbers import (
    NOTHING,
    RAW_METRICS,
    all_of,
    count_text,
    decimal,
    difference_text,
    duration_text,
    interval_text,
    listed,
    mean_text,
    p_equals,
    p_text,
)
from nmg.tasks.registry import task_kind

LISTED = 6
"""Maximum number of differing pairs that the summary names."""


def setting_text(condition: Condition, task: str, n_labelled: int | None = None) -> str:
    """Describe a condition, e.g. '16 labelled examples of each class (200 in all), 50 adaptation steps'.

    Args:
        condition: A point of the learning curves.
        task: Name of the task kind; it determines whether labels are counted per class.
        n_labelled: Number of labelled examples over all classes, or None to omit it.

    Returns:
        The description; empty if the condition uses the configured labels and steps.
    """
    parts = []
    if condition.labelled == "all":
        parts.append(f"all {f'{n_labelled:,} ' if n_labelled else ''}labelled examples")
    elif condition.labelled is not None:
        examples = "example" if condition.labelled == 1 else "examples"
        in_all = f" ({n_labelled:,} in all)" if n_labelled not in {None, condition.labelled} else ""
        parts.append(f"{condition.labelled} labelled {examples}{task_kind(task).few_labels_text}{in_all}")
    if condition.adapt_steps is not None:
        parts.append(f"{condition.adapt_steps} adaptation step{'s' if condition.adapt_steps > 1 else ''}")
    return ", ".join(parts)


def setting_title(result: SettingResult, task: str) -> str:
    """Return `setting_text` with the number of labelled examples, if all maskings had the same number."""
    counts = {round(one.n_labelled) for one in result.maskings}
    return setting_text(result.condition, task, counts.pop() if len(counts) == 1 else None)


def scope(results: ComparisonResults) -> str:
    """Return one sentence on the scope of intervals and p values: other seeds, but not the data all seeds share."""
    data = results.config.data
    limited = data.labelled_per_class is not None or data.labelled_examples is not None
    uses_all = [
        result.condition.labelled == "all" or (result.condition.labelled is None and not limited)
        for result in results.settings
    ]
    shared, others = ["this test set"], ["other test texts"]
    if all(uses_all):
        shared.append("this training set")
        others.append("other training texts")
    elif any(uses_all):
        shared.append("this training set (if all its labels are used)")
        others.append("other training texts")
    if results.has_policies:
        shared.append("these learned policies")
        others.append("other policies of the same learners")
    return f"Intervals and p values cover other seeds with {listed(shared, 'and')}, but not {listed(others, 'or')}."


def metric_title(metric: str) -> str:
    """Return the column heading of a metric."""
    return "held-out LM loss" if metric == HELD_OUT else metric


MIXED = "†"
"""Marks a pair whose cells ran in different environments."""


CONSTANT_NOTE = (
    "If the difference is the same in every seed, t is undefined and the corrected p comes from the exact signed-rank "
    "test."
)


def scores_table(result: SettingResult, metrics: Sequence[str]) -> Table:
    """Return a table with one row per masking: scores and costs.

    A row has mean ± standard deviation of each metric and the 95 % interval of the first metric. It also has the
    masked-LM loss on held-out text (if measured), the number of masked tokens and the time.
    """
    shown = [*metrics, *([HELD_OUT] if any(HELD_OUT in one.estimates for one in result.maskings) else [])]
    header = ["masking", "seeds", metrics[0], "95 %", *map(metric_title, shown[1:]), "masked tokens", "time"]
    rows = [
        (
            one.masking,
            str(one.estimates[metrics[0]].n),
            _mean(one.estimates, metrics[0]),
            interval_text(one.estimates[metrics[0]].low, one.estimates[metrics[0]].high, metrics[0]),
            *(_mean(one.estimates, metric) for metric in shown[1:]),
            f"{one.costs.masked_tokens:,.0f}",
            duration_text(one.costs.total),
        )
        for one in result.maskings
    ]
    unit = "Scores × 100" + (" (losses as they are)" if set(shown) & RAW_METRICS else "")
    notes = [f"{unit}: mean ± standard deviation over seeds; 95 %: t interval of the mean."]
    if HELD_OUT in shown:
        notes.append(
            "Held-out LM loss: loss on text outside the adaptation corpus, with the same random masks for every "
            "masking."
        )
    notes.append("Masked tokens and time: mean per run.")
    return Table(tuple(header), tuple(rows), tuple(notes))


def pairs_table(result: SettingResult, metric: str, n_planned: int) -> Table:
    """Return a table with the test of every pair of maskings.

    Args:
        result: Results of one condition.
        metric: The tested metric.
        n_planned: Number of planned pairs in the whole comparison: the family of Holm's correction.
    """
    family = f"{count_text(n_planned, 'planned pair')} of this comparison"
    return named_pairs_table([(pair_name(pair), pair) for pair in result.pairs], metric, family)


def named_pairs_table(pairs: Sequence[tuple[str, Pair]], metric: str, family: str) -> Table:
    """Return a table with one named row per pair.

    Args:
        pairs: Name and test of each pair.
        metric: The tested metric.
        family: The family of Holm's correction as text that starts with its size, e.g. "3 planned pairs".
    """
    header = ("difference", "n", f"Δ {metric} [95 %]", "p", "p (Holm)", "Wilcoxon p", "p (Holm)", "d_z", "w/t/l")
    rows = []
    for name, pair in pairs:
        test = pair.test
        rows.append(
            (
                name + (MIXED if pair.mixed_seeds else ""),
                str(test.n),
                difference_text(test.mean, test.low, test.high, metric),
                p_text(test.t_p),
                p_text(pair.t_p_holm),
                p_text(test.wilcoxon_p),
                p_text(pair.wilcoxon_p_holm),
                decimal(test.effect_size, 2, "+"),
                f"{test.wins}/{test.ties}/{test.losses}",
                NOTHING if test.seeds_needed is None else f"{test.seeds_needed:,} (+{test.seeds_still_needed:,})",
            )
        )
    notes = [
        "Δ: mean paired difference over n seeds with its 95 % t interval; p: two-sided paired t test; Wilcoxon p: "
        f"exact signed-rank test; Holm: corrected over {all_of(family)}.",
        "d_z: mean / standard deviation of the differences; w/t/l: number of seeds that the first masking wins, ties "
        "and loses.",
        "Seeds needed (+ those still missing): number of seeds that finds a difference of this d_z with 80 % power in "
        "one test at 5 %; a d_z from few seeds is itself uncertain.",
    ]
    if any(pair.test.is_constant for _, pair in pairs):
        notes.append(CONSTANT_NOTE)
    if any(pair.mixed_seeds for _, pair in pairs):
        notes.append(
            f"{MIXED}: in at least one seed the two cells ran in different environments, so their difference may have "
            "other causes than the masks."
        )
    found = frozenset((row, 4) for row, (_, pair) in enumerate(pairs) if pair.differs)
    return Table((*header, "seeds needed"), tuple(rows), tuple(notes), highlighted=found)


def costs_table(result: SettingResult, meta_training: Mapping[str, MetaTrainingCost]) -> Table:
    """Return a table with the mean cost of a run per masking.

    The cost of meta-training is added if the comparison has learned maskings.
    """
    header = ["masking", "tokens", "masked tokens", "adaptation", "masks", "fine-tuning", "total"]
    notes = [
        "Means per run. Tokens: read in the adaptation; masked tokens: trained on; masks: the part of the adaptation "
        "time that selects masks, including the forward passes of policies that read the model's states."
    ]
    if meta_training:
        header += ["meta-training", "per adaptation"]
        notes.append(
            "Meta-training: time to learn the policy, once; per adaptation: that time divided by the number of "
            "adaptations here."
        )
    rows = [_cost_cells(one, meta_training) for one in result.maskings]
    return Table(tuple(header), tuple(rows), tuple(notes))


def _cost_cells(one: MaskingResult, meta_training: Mapping[str, MetaTrainingCost]) -> tuple[str, ...]:
    costs = one.costs
    cells = [one.masking, f"{costs.tokens:,.0f}", f"{costs.masked_tokens:,.0f}"]
    cells += [duration_text(seconds) for seconds in (costs.adapt, costs.masks, costs.finetune, costs.total)]
    if meta_training:
        cost = meta_training.get(one.masking)
        cells += [NOTHING] * 2 if cost is None else [duration_text(cost.seconds), duration_text(cost.amortised)]
    return tuple(cells)


def condition_tables(results: ComparisonResults, result: SettingResult) -> tuple[Table, Table, Table]:
    """Return the tables of one condition: scores, pairs and costs."""
    condition = setting_title(result, results.config.data.task)
    where = f": {condition}" if condition else ""
    scores = scores_table(result, results.metrics)
    pairs = pairs_table(result, results.tested, results.n_planned)
    costs = costs_table(result, results.meta_training)
    return (
        replace(scores, caption=f"Scores on the test set{where}"),
        replace(pairs, caption=f"Pairs of maskings{where}"),
        replace(costs, caption=f"Costs{where}"),
    )


ON_TERMINAL = (0, 2, 4, 7, 8, 9)
"""Columns of a table of pairs that fit on a terminal of 80 columns."""


def terminal_tables(results: ComparisonResults) -> list[Table]:
    """Return tables that fit on a terminal of 80 columns: scores with costs, and pairs."""
    tables = []
    for result in results.settings:
        scores, pairs, _ = condition_tables(results, result)
        first_metric = replace(scores_table(result, results.metrics[:1]), caption=scores.caption)
        tables += [first_metric, pairs.columns(ON_TERMINAL)]
    return tables


def pair_name(pair: Pair) -> str:
    """Return 'first − second'."""
    return f"{pair.first} − {pair.second}"


def reading(results: ComparisonResults) -> str:
    """Return a one-paragraph summary of the tests, generated from the numbers."""
    tested = [(result.condition, pair) for result in results.settings for pair in result.pairs if pair.is_tested]
    if not results.pairs:
        text = "There is no pair of maskings to compare."
    elif not tested:
        text = "One seed cannot separate differences from chance. Run more seeds (--seeds)."
    elif all(pair.test.ties == pair.test.n for _, pair in tested):
        text = _all_the_same(results)
    else:
        differing = [(condition, pair) for condition, pair in tested if pair.differs]
        text = _findings(results, differing) if differing else _no_finding(results, tested)
    if results.failures:
        n = len(results.failures)
        text += f" {count_text(n, 'cell')} failed and {'are' if n > 1 else 'is'} left out of these results."
    if results.differing:
        text += f" {_on_circumstances(results)}"
    return text


def _on_circumstances(results: ComparisonResults) -> str:
    """Describe how the environments of the cells differ, and how many pairs this affects."""
    text = f"The cells ran in different environments: they differ in {described(results.differing)}."
    mixed = sum(bool(pair.mixed_seeds) for pair in results.pairs)
    if not mixed:
        return f"{text} Within each seed they are the same, so pairs are not affected."
    return (
        f"{text} In {count_text(mixed, 'pair')}, marked {MIXED}, they differ within a seed, so the difference may have "
        "other causes than the masks. To avoid this, run the comparison again in a new folder."
    )


def _all_the_same(results: ComparisonResults) -> str:
    return (
        f"All maskings have the same {results.tested} in every seed, so fine-tuning may have learned only the most "
        "frequent answer. Use more labels, or more epochs (test.finetune_epochs)."
    )


def _no_finding(results: ComparisonResults, tested: Sequence[tuple[Condition, Pair]]) -> str:
    condition, nearest = min(tested, key=lambda entry: (entry[1].t_p_holm or 0.0, entry[1].test.p or 0.0))
    text = (
        f"No pair differs on {results.tested} at 5 % after Holm's correction over "
        f"{count_text(results.n_planned, 'planned pair')} with n = {_seeds(tested)} seeds. "
        "This does not show that the maskings are equal: the intervals give the differences "
        f"that the data do not rule out. The smallest p value is that of {_described(results, condition, nearest)}."
    )
    if nearest.test.seeds_needed is not None:
        text += (
            f" If its effect size is as estimated, a single test with {nearest.test.seeds_needed:,} seeds would detect "
            "it with 80 % power."
        )
    return text


def _findings(results: ComparisonResults, differing: Sequence[tuple[Condition, Pair]]) -> str:
    named = "; ".join(_described(results, condition, pair) for condition, pair in differing[:LISTED])
    verb = "differs" if len(differing) == 1 else "differ"
    more = f"; and {len(differing) - LISTED} more in the table" if len(differing) > LISTED else ""
    return (
        f"{len(differing)} of {count_text(results.n_planned, 'planned pair')} {verb} on {results.tested} at 5 % "
        "after Holm's correction, "
        f"with n = {_seeds(differing)} seeds: {named}{more}."
    )


def paired_text(test: PairedTest, metric: str) -> str:
    """Return the mean difference with its interval; adds "in every seed" if it is constant."""
    constant = " in every seed" if test.is_constant else ""
    return difference_text(test.mean, test.low, test.high, metric) + constant


def _described(results: ComparisonResults, condition: Condition, pair: Pair) -> str:
    difference = paired_text(pair.test, results.tested)
    result = next(one for one in results.settings if one.condition == condition)
    where = setting_title(result, results.config.data.task)
    return f"{pair_name(pair)} ({difference}, corrected {p_equals(pair.t_p_holm)}{f', with {where}' if where else ''})"


def _seeds(tested: Sequence[tuple[Condition, Pair]]) -> str:
    counts = sorted({pair.test.n for _, pair in tested})
    return f"{counts[0]}–{counts[-1]}" if len(counts) > 1 else str(counts[0])


def _mean(estimates: Mapping[str, Estimate], metric: str) -> str:
    value = estimates.get(metric)
    return NOTHING if value is None else mean_text(value.mean, value.deviation, metric)
