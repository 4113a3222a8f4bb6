"""Generates a one-paragraph summary of a comparison from its numbers."""

from collections.abc import Sequence
from typing import TypeAlias

from nmg.comparison.environment import described
from nmg.comparison.results import ComparisonResults, Pair, SettingResult
from nmg.report.comparison import EQUAL, MIXED, margin_text, pair_name, place_text, tells_power
from nmg.report.numbers import count_text, difference_text, interval_text, p_equals

LISTED = 6
"""Maximum number of pairs with a detected difference that the summary names."""

Tested: TypeAlias = Sequence[tuple[SettingResult, Pair]]


def reading(results: ComparisonResults) -> str:
    """Return a one-paragraph summary of the tests and of differences between environments."""
    sentences = [_on_tests(results, metric) for metric in results.families]
    left_out = [f"{', '.join(part.left_out)} in {part.title}" for part in results.planned if part.left_out]
    if left_out:
        sentences.append(f"Policies are left out if they do not fit a model: {'; '.join(left_out)}.")
    if results.failed_parts:
        failed = count_text(len(results.failed_parts), "part")
        sentences.append(f"{failed} failed as a whole; the correction still counts the planned tests.")
    if n := len(results.failures) - len(results.failed_parts):
        sentences.append(f"{count_text(n, 'trial')} failed and {'are' if n > 1 else 'is'} left out of these results.")
    sentences += _on_environments(results)
    return " ".join(dict.fromkeys(sentences))


def _on_tests(results: ComparisonResults, metric: str) -> str:
    pairs = [(setting, pair) for setting in results.family(metric) for pair in setting.pairs]
    tested = [(setting, pair) for setting, pair in pairs if pair.is_tested]
    if not pairs:
        return f"There is no pair of {results.planned[0].noun}s to compare."
    if not tested:
        option = "" if results.is_external else " (--seeds)"
        return f"One seed cannot separate differences from chance. Run more seeds{option}."
    if not results.is_external and all(pair.test.ties == pair.test.n for _, pair in tested):
        return (
            f"All maskings have the same {metric} in every seed, so fine-tuning may have learned only the most "
            "frequent answer. Use more labels, or more epochs (test.finetune_epochs)."
        )
    over = f"on {metric} at 5 % after Holm's correction"
    planned = count_text(results.families[metric], "planned pair")
    others = [(setting, pair) for setting, pair in tested if not pair.is_equal]
    shown = [(setting, pair) for setting, pair in others if pair.is_shown]
    unsure = [(setting, pair) for setting, pair in others if pair.differs and not pair.is_shown]
    sentences = []
    if equal := [(setting, pair) for setting, pair in tested if pair.is_equal]:
        margins = " or ".join(dict.fromkeys(f"±{margin_text(pair.margin)}" for _, pair in equal))
        sentences.append(f"{EQUAL.capitalize()}, within {margins} over seeds and texts: {_list(equal)}.")
    if shown:
        verb = "differs" if len(shown) == 1 else "differ"
        sentences.append(f"{len(shown)} of {planned} {verb} {over}, with n = {_seeds(shown)} seeds: {_list(shown)}.")
    if unsure:
        holds, it = ("This difference holds", "it") if len(unsure) == 1 else ("These differences hold", "they")
        sentences.append(f"{holds} over seeds; over other texts {it} may not: {_list(unsure)}.")
    if others and not shown and not unsure:
        none = "No other pair" if equal else "No pair"
        sentences.append(f"{none} differs {over} over {planned} with n = {_seeds(others)} seeds. {_nearest(others)}")
    return " ".join(sentences)


def _list(pairs: Tested) -> str:
    """Return the pairs with their numbers; of many, only the first."""
    named = "; ".join(_described(setting, pair) for setting, pair in pairs[:LISTED])
    return named + (f"; and {len(pairs) - LISTED} more in the table" if len(pairs) > LISTED else "")


def _nearest(tested: Tested) -> str:
    """Return what the absence of detected differences means, and which pair has the smallest p value."""
    setting, nearest = min(tested, key=lambda entry: (entry[1].t_p_holm or 0.0, entry[1].test.p or 0.0))
    text = (
        "This does not show equality: the intervals give the differences "
        f"that the data do not rule out. The smallest p value is that of {_described(setting, nearest)}."
    )
    if tells_power(nearest.test) and nearest.test.seeds_still_needed:  # without any, only the correction hides it
        text += (
            f" If its effect size is as estimated, a single test with {nearest.test.seeds_needed:,} seeds would detect "
            "it with 80 % power."
        )
    return text


def _on_environments(results: ComparisonResults) -> list[str]:
    """Describe how environments differ between the trials of a part, and how many pairs this affects."""
    differing: dict[str, list[str]] = {}
    for one in results.parts:
        for name, values in one.differing.items():
            differing[name] = list(dict.fromkeys([*differing.get(name, []), *values]))
    if not differing:
        return []
    text = f"The trials ran in different environments: they differ in {described(differing)}."
    mixed = sum(bool(pair.mixed_seeds) for pair in results.pairs)
    if not mixed:
        return [text, "Within each seed they are the same, so pairs are not affected."]
    return [
        text,
        f"In {count_text(mixed, 'pair')}, marked {MIXED}, they differ within a seed, so the difference may have other "
        "causes than the masks. To avoid this, run the comparison again in a new folder.",
    ]


def paired_text(pair: Pair, metric: str) -> str:
    """Return the mean difference with its intervals; adds "in every seed" if it is constant."""
    test = pair.test
    text = difference_text(test.mean, test.low, test.high, metric) + (" in every seed" if test.is_constant else "")
    if pair.seeds_and_texts is None:
        return text
    return f"{text} over seeds, {interval_text(*pair.seeds_and_texts, metric, '+')} over seeds and texts"


def _described(setting: SettingResult, pair: Pair) -> str:
    place = place_text(setting)
    where = f", {'in' if setting.part.name else 'with'} {place}" if place else ""
    return f"{pair_name(pair)} ({paired_text(pair, setting.tested)}, corrected {p_equals(pair.t_p_holm)}{where})"


def _seeds(tested: Tested) -> str:
    counts = sorted({pair.test.n for _, pair in tested})
    return f"{counts[0]}–{counts[-1]}" if len(counts) > 1 else str(counts[0])
