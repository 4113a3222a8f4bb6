"""Tables of a comparison: scores, tested pairs, costs, and the means of a grid."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nmg.base.numerals import duration_text
from nmg.base.trial import Condition
from nmg.comparison.results import (
    HELD_OUT,
    ComparisonResults,
    MaskingResult,
    MetaTrainingCost,
    Pair,
    PartResults,
    SettingResult,
)
from nmg.comparison.statistics import Estimate, PairedTest
from nmg.report.document import Table
from nmg.report.numbers import (
    NOTHING,
    RAW_METRICS,
    all_of,
    best_rows,
    count_text,
    decimal,
    difference_text,
    distinct_columns,
    interval_text,
    listed,
    mean_text,
    p_text,
    score_text,
    shown_scale,
)
from nmg.tasks.registry import task_kind


def setting_text(condition: Condition, task: str, n_labelled: int | None = None) -> str:
    """Describe a condition, e.g. '16 labelled examples of each class (200 in all), 50 adaptation steps'.

    Args:
        condition: A point of the learning curves.
        task: Name of the task kind; it determines whether labels are counted per class.
        n_labelled: Number of labelled examples over all classes, or None to omit it.

    Returns:
        The description; empty if the condition is as the configuration says.
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
    if condition.lora_rank is not None:
        parts.append(f"LoRA of rank {condition.lora_rank}" if condition.lora_rank else "whole model trained")
    return ", ".join(parts)


def setting_title(result: SettingResult) -> str:
    """Return `setting_text` with the number of labelled examples, if all maskings had the same number."""
    return setting_text(result.condition, result.part.config.data.task, result.n_labelled)


def place_text(result: SettingResult) -> str:
    """Return the part and the condition of a result as text, each only if it is needed; may be empty.

    The part ('data set · model') is omitted if it has no name, the condition if it is the configured one.
    """
    return ", ".join(filter(None, [result.part.title if result.part.name else "", setting_title(result)]))


def scope(results: PartResults) -> str:
    """Return one sentence on the scope of intervals and p values: other seeds, but not data that all seeds share."""
    data = results.part.config.data
    limited = data.labelled_per_class is not None or data.labelled_examples is not None or results.part.is_external
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
    text = f"Intervals and p values cover other seeds with {listed(shared, 'and')}, but not {listed(others, 'or')}."
    if not any(one.has_texts for one in results.settings):
        return text
    return f"{text} Only the interval over seeds and texts covers other test texts."


def metric_title(metric: str) -> str:
    """Return the column heading of a metric."""
    return "held-out LM loss" if metric == HELD_OUT else metric


SEEDS_FOR_POWER = 5
"""Minimum number of seeds from which the number of seeds needed is estimated."""
MIXED = "†"
"""Marks a pair with a seed whose two trials ran in different environments."""


TEXTS = "95 %, seeds and texts"
"""Column heading of the interval over seeds and test texts."""
SEEDS, HOLM, NEEDED = "n", "p (Holm)", "seeds needed"
"""Column headings: number of seeds of a pair, its corrected p, and the number of seeds that would find it."""
EQUAL = "practically equal"
"""Marks a pair whose interval over seeds and texts is within ± `test.margin`."""


def margin_text(margin: float) -> str:
    """Return a margin, given as a fraction, in points: '0.5 points'."""
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"


CONSTANT_NOTE = (
    "If the difference is the same in every seed, t is undefined and the corrected p comes from the exact signed-rank "
    "test."
)


def scores_table(result: SettingResult, metrics: Sequence[str]) -> Table:
    """Return a table with one row per masking: scores and costs.

    A row has mean ± standard deviation of each of the `metrics` and the 95 % interval of the first one. It also has the
    masked-LM loss on held-out text (if measured), the number of masked tokens and the time.
    """
    texts = {metric: [_mean(one.estimates, metric) for one in result.maskings] for metric in metrics}
    distinct = distinct_columns(texts)
    shown = [*distinct, *([HELD_OUT] if any(HELD_OUT in one.estimates for one in result.maskings) else [])]
    costs = [] if result.part.is_external else ["masked tokens", "time"]
    header = [result.part.noun, "seeds", metrics[0], "95 %", *map(metric_title, shown[1:]), *costs]
    rows = [
        (
            one.title,
            str(one.estimates[metrics[0]].n),
            _mean(one.estimates, metrics[0]),
            interval_text(one.estimates[metrics[0]].low, one.estimates[metrics[0]].high, metrics[0]),
            *(_mean(one.estimates, metric) for metric in shown[1:]),
            *([f"{one.costs.masked_tokens:,.0f}", duration_text(one.costs.total)] if costs else []),
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
    if costs:
        notes.append("Masked tokens and time: mean per run.")
    if left_out := [metric for metric in metrics if metric not in distinct]:
        equal = {metric: next(one for one in distinct if texts[one] == texts[metric]) for metric in left_out}
        notes.append("; ".join(f"{metric} equals {one}" for metric, one in equal.items()) + ".")
    best = best_rows([one.estimates[metrics[0]].mean for one in result.maskings], metrics[0])
    return Table(tuple(header), tuple(rows), tuple(notes), marks=best)


def pairs_table(results: ComparisonResults, settings: Sequence[SettingResult]) -> Table:
    """Return a table with one row per tested pair.

    Args:
        results: The comparison; it has the families of Holm's correction.
        settings: The results to show; they must have the same tested metric. With several, each row names its part and
            condition.

    Returns:
        The table, with the differences that the scores show (`Pair.is_shown`) highlighted.
    """
    metric = settings[0].tested
    pairs = [
        (f"{place_text(one)}: {pair_name(pair)}" if len(settings) > 1 else pair_name(pair), pair)
        for one in settings
        for pair in one.pairs
    ]
    header = ("difference", SEEDS, f"Δ {metric} [95 %]", TEXTS, HOLM, "Wilcoxon p (Holm)", "d_z", "w/t/l", NEEDED)
    rows = []
    for name, pair in pairs:
        test, both = pair.test, pair.seeds_and_texts or (None, None)
        rows.append(
            (
                name + (MIXED if pair.mixed_seeds else ""),
                str(test.n),
                difference_text(test.mean, test.low, test.high, metric),
                interval_text(both[0], both[1], metric, "+"),
                p_text(pair.t_p_holm),
                p_text(pair.wilcoxon_p_holm),
                decimal(test.effect_size, 2, "+"),
                f"{test.wins}/{test.ties}/{test.losses}",
                NOTHING if not tells_power(test) else f"{test.seeds_needed:,} (+{test.seeds_still_needed:,})",
            )
        )
    notes = [
        "Δ: mean paired difference over the seeds with its 95 % t interval; p: two-sided paired t test; Wilcoxon p: "
        f"exact signed-rank test; both with Holm's correction over {all_of(family_text(results, metric))}.",
        "d_z: mean / standard deviation of the differences; w/t/l: number of seeds that the first one wins, ties "
        "and loses.",
        "Seeds needed (+ those still missing): number of seeds that finds a difference of this d_z with 80 % power in "
        "one test at 5 %; a d_z from few seeds is itself uncertain.",
    ]
    notes += _texts_notes(settings, [pair for _, pair in pairs])
    if any(pair.test.is_constant for _, pair in pairs):
        notes.append(CONSTANT_NOTE)
    if any(pair.mixed_seeds for _, pair in pairs):
        notes.append(
            f"{MIXED}: in at least one seed the two trials ran in different environments, so their difference may have "
            "other causes than the masks."
        )
    found = [row for row, (_, pair) in enumerate(pairs) if pair.is_shown]
    equal = [row for row, (_, pair) in enumerate(pairs) if pair.is_equal]
    table = Table(
        header,
        tuple(rows),
        tuple(notes),
        highlighted=frozenset((row, header.index(HOLM)) for row in found),
        marks=(*((row, "significant") for row in found), *((row, EQUAL) for row in equal)),
    )
    left_out = set()
    if len({pair.test.n for _, pair in pairs}) == 1 and all(_has_all_seeds(one) for one in settings):
        left_out.add(SEEDS)  # the table of scores says it
    if not any(tells_power(pair.test) for _, pair in pairs):
        left_out.add(NEEDED)
        notes = [note for note in notes if not note.startswith("Seeds needed")]
    return replace(table.columns([at for at, name in enumerate(header) if name not in left_out]), notes=tuple(notes))


def _has_all_seeds(result: SettingResult) -> bool:
    """Return whether every pair has as many seeds as each of its maskings."""
    n_seeds = {one.masking: one.estimates[result.tested].n for one in result.maskings}
    return all(pair.test.n == n_seeds[pair.first] == n_seeds[pair.second] for pair in result.pairs)


def _texts_notes(settings: Sequence[SettingResult], pairs: Sequence[Pair]) -> list[str]:
    """Return what the interval over seeds and texts says, and why settings have none."""
    notes = [
        f"No interval over other texts: {why}."
        for why in dict.fromkeys(one.without_texts for one in settings if one.pairs)
        if why is not None
    ]
    if margin := next((pair.margin for pair in pairs if pair.is_equal), None):
        notes.append(f"{EQUAL.capitalize()}: that interval is within ±{margin_text(margin)} (test.margin).")
    if any(one.has_texts for one in settings):
        notes.insert(
            0,
            f"{TEXTS}: interval of Δ over other seeds and other test texts, not corrected. A difference is called "
            "significant only if this interval leaves out 0, too.",
        )
    return notes


def tells_power(test: PairedTest) -> bool:
    """Return whether the number of seeds needed may be shown; an effect size from few seeds is too uncertain."""
    return test.seeds_needed is not None and test.n >= SEEDS_FOR_POWER


def costs_table(result: SettingResult, meta_training: Mapping[str, MetaTrainingCost]) -> Table:
    """Return a table with the mean costs of a trial, one row per masking.

    It has a column for the cost of `nmg learn` if `meta_training` (masking → cost) is not empty.
    """
    header = ["masking", "tokens", "masked tokens", "adaptation", "masks", "fine-tuning", "total"]
    notes = [
        "Means per run. Tokens: read in the adaptation; masked tokens: trained on; masks: the part of the adaptation "
        "time that selects masks, including the forward passes of policies that read the model's states."
    ]
    if meta_training:
        header += ["learning", "per adaptation"]
        notes.append(
            "Learning: time of `nmg learn` for the policy, once; per adaptation: that time divided by the number of "
            "adaptations here."
        )
    rows = [_cost_cells(one, meta_training) for one in result.maskings]
    return Table(tuple(header), tuple(rows), tuple(notes))


def _cost_cells(one: MaskingResult, meta_training: Mapping[str, MetaTrainingCost]) -> tuple[str, ...]:
    costs = one.costs
    cells = [one.title, f"{costs.tokens:,.0f}", f"{costs.masked_tokens:,.0f}"]
    cells += [duration_text(seconds) for seconds in (costs.adapt, costs.masks, costs.finetune, costs.total)]
    if meta_training:
        cost = meta_training.get(one.masking)
        cells += [NOTHING] * 2 if cost is None else [duration_text(cost.seconds), duration_text(cost.amortised)]
    return tuple(cells)


def condition_tables(results: ComparisonResults, result: SettingResult) -> tuple[Table, Table, Table]:
    """Return the tables of one condition of one part: scores, pairs and costs."""
    where = f": {setting_title(result)}" if setting_title(result) else ""
    meta_training = next(one.meta_training for one in results.parts if one.part == result.part)
    pairs = f"Pairs of {result.part.noun}s" if results.baseline is None else f"Differences from {results.baseline}"
    return (
        replace(scores_table(result, result.metrics), caption=f"Scores on the test set{where}"),
        replace(pairs_table(results, [result]), caption=pairs + where),
        replace(costs_table(result, meta_training), caption=f"Costs{where}"),
    )


DIFFERS = "*"
"""Marks a mean that differs from the mean of the baseline, by the corrected test."""


def means_tables(results: ComparisonResults, metric: str) -> list[Table]:
    """Return the means of all parts that are scored by the metric, one table per condition.

    A table has one row per masking and one column per part.
    """
    family = results.family(metric)
    return [
        _means_table(results, [one for one in family if one.condition == condition])
        for condition in dict.fromkeys(one.condition for one in family)
    ]


def _means_table(results: ComparisonResults, settings: Sequence[SettingResult]) -> Table:
    metric, first = settings[0].tested, settings[0]
    names = dict.fromkeys(masking.masking for one in settings for masking in one.maskings)
    rows = [(name, *(_mean_of(one, name) for one in settings)) for name in names]
    counts = sorted({masking.estimates[metric].n for one in settings for masking in one.maskings})
    seeds = "–".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"
    scale = f" × {shown_scale(metric)}" if shown_scale(metric) != 1 else ""
    note = (
        f"{metric}{scale}: mean over {seeds} seed{'' if seeds == '1' else 's'} with its 95 % t interval. {DIFFERS}: "
        f"differs from {results.baseline} at 5 % (paired t test, Holm's correction over "
        f"{all_of(family_text(results, metric))}{_and_texts(settings)})."
    )
    where = setting_text(first.condition, first.part.config.data.task)
    caption = f"{metric} on the test sets{f': {where}' if where else ''}"
    return Table(("masking", *(one.part.title for one in settings)), tuple(rows), (note,), caption)


def _and_texts(settings: Sequence[SettingResult]) -> str:
    return "; 0 is outside of the interval over seeds and texts" if any(one.has_texts for one in settings) else ""


def _mean_of(result: SettingResult, name: str) -> str:
    """Return the mean of a masking with its interval, and with `DIFFERS` if it is shown to differ from the baseline."""
    value = next((one.estimates[result.tested] for one in result.maskings if one.masking == name), None)
    if value is None:
        return NOTHING
    interval = f" {interval_text(value.low, value.high, result.tested)}" if value.low is not None else ""
    is_shown = any(pair.is_shown for pair in result.pairs if pair.first == name)
    return score_text(value.mean, result.tested) + interval + (DIFFERS if is_shown else "")


def differences_table(results: ComparisonResults, metric: str) -> Table:
    """Return a table of the tests of the metric in all parts."""
    caption = f"Differences of {metric} from {results.baseline}"
    return replace(pairs_table(results, results.family(metric)), caption=caption)


def family_text(results: ComparisonResults, metric: str) -> str:
    """Describe the family of Holm's correction of a metric, e.g. '3 planned pairs of this comparison'."""
    of = f" of {metric}" if len(results.families) > 1 else ""
    return f"{count_text(results.families[metric], 'planned pair')}{of} of this comparison"


NOT_ON_TERMINAL = {SEEDS, "Wilcoxon p (Holm)", "d_z"}
"""Columns of a table of pairs that are not shown in a terminal of 80 columns."""


def terminal_tables(results: ComparisonResults) -> list[Table]:
    """Return tables for a terminal of 80 columns: scores and pairs; in a grid, means and differences of each metric."""
    tables = []
    for metric in results.families if results.is_grid else ():
        tables += [*means_tables(results, metric), _for_terminal(differences_table(results, metric))]
    for result in () if results.is_grid else results.settings:
        scores, pairs, _ = condition_tables(results, result)
        first_metric = replace(scores_table(result, result.metrics[:1]), caption=scores.caption)
        tables += [first_metric, _for_terminal(pairs)]
    return tables


def _for_terminal(pairs: Table) -> Table:
    return pairs.columns([at for at, name in enumerate(pairs.header) if name not in NOT_ON_TERMINAL])


def pair_name(pair: Pair) -> str:
    """Return 'first − second'."""
    return f"{pair.first} − {pair.second}"


def _mean(estimates: Mapping[str, Estimate], metric: str) -> str:
    value = estimates.get(metric)
    return NOTHING if value is None else mean_text(value.mean, value.deviation, metric)
