"""Tables of a grid of comparisons, and a one-paragraph summary generated from its numbers."""

from collections.abc import Sequence
from dataclasses import replace

from nmg.comparison.grid import Difference, Family, GridResults, Part
from nmg.comparison.results import MaskingResult
from nmg.comparison.trials import Condition
from nmg.report.comparison import (
    LISTED,
    MIXED,
    ON_TERMINAL,
    named_pairs_table,
    pair_name,
    paired_text,
    scope,
    setting_text,
)
from nmg.report.document import Table
from nmg.report.numbers import NOTHING, all_of, count_text, interval_text, p_text, score_text, shown_scale

DIFFERS = "*"
"""Marks a mean that differs from the baseline's."""


def part_title(part: Part) -> str:
    """Return 'data set · model'."""
    return f"{part.data} · {part.model}"


def means_table(family: Family, condition: Condition, base: str) -> Table:
    """Return a table of means and intervals with one row per masking and one column per data set and model.

    Args:
        family: All tests of one primary metric in the grid.
        condition: The condition to show.
        base: Name of the baseline masking.
    """
    by_part = [(part, family.maskings(part, condition)) for part in family.parts]
    names = list(dict.fromkeys(name for _, maskings in by_part for name in maskings))
    rows = [
        (name, *(_mean(family, part, condition, maskings.get(name)) for part, maskings in by_part)) for name in names
    ]
    metric, scale = family.metric, shown_scale(family.metric)
    counts = sorted({one.estimates[metric].n for _, maskings in by_part for one in maskings.values()})
    seeds = "–".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"
    notes = (
        f"{metric}{f' × {scale}' if scale != 1 else ''}: mean over {seeds} seed{'' if seeds == '1' else 's'} with its "
        f"95 % t interval. {DIFFERS}: differs from {base} at 5 % (paired t test, Holm's correction over "
        f"{all_of(_planned(family))}).",
    )
    header = ("masking", *(part_title(part) for part, _ in by_part))
    return Table(header, tuple(rows), notes, means_title(family, condition))


def differences_table(family: Family, base: str) -> Table:
    """Return a table with every test of the family: each masking against the baseline `base`."""
    pairs = [(f"{place_text(one)}: {pair_name(one.pair)}", one.pair) for one in family.differences]
    table = named_pairs_table(pairs, family.metric, _planned(family))
    return replace(table, caption=f"Differences of {family.metric} from {base}")


def _planned(family: Family) -> str:
    return f"{count_text(family.n_planned, 'planned test')} of {family.metric} in the grid"


def place_text(one: Difference) -> str:
    """Return the place of a difference in the grid: data set, model and, if it has a description, the condition."""
    condition = setting_text(one.condition, one.part.config.data.task)
    return part_title(one.part) + (f", {condition}" if condition else "")


def terminal_tables(grid: GridResults) -> list[Table]:
    """Return the tables of all metrics with the columns that fit on a terminal."""
    tables = []
    for family in grid.families:
        tables += [means_table(family, condition, grid.base) for condition in family.settings]
        tables.append(differences_table(family, grid.base).columns(ON_TERMINAL))
    return tables


def means_title(family: Family, condition: Condition) -> str:
    """Return the title of the table of means."""
    where = setting_text(condition, family.parts[0].config.data.task)
    return f"{family.metric} on the test sets{f': {where}' if where else ''}"


def reading(grid: GridResults) -> str:
    """Return a one-paragraph summary of the tests, generated from the numbers."""
    sentences = [_family_text(family, grid.base) for family in grid.families]
    left_out = [f"{', '.join(part.left_out)} in {part_title(part)}" for part in grid.parts if part.left_out]
    if left_out:
        sentences.append(f"Policies are left out if they do not fit a model: {'; '.join(left_out)}.")
    mixed = sum(bool(one.pair.mixed_seeds) for family in grid.families for one in family.differences)
    if mixed:
        sentences.append(
            f"In {count_text(mixed, 'difference')}, marked {MIXED}, the two cells ran in different environments, so "
            "the difference may have other causes than the masks."
        )
    if grid.failed_parts:
        failed = count_text(len(grid.failed_parts), "comparison")
        sentences.append(f"{failed} failed as a whole; the correction still counts the planned tests.")
    n_cells = len(grid.failures) - len(grid.failed_parts)
    if n_cells:
        sentences.append(
            f"{count_text(n_cells, 'cell')} failed and {'are' if n_cells > 1 else 'is'} left out of these results."
        )
    return " ".join(sentences)


def scopes(grid: GridResults) -> list[str]:
    """Return the distinct sentences of `comparison.scope` over all comparisons."""
    return list(dict.fromkeys(scope(results) for results in grid.results.values()))


def _family_text(family: Family, base: str) -> str:
    tested = [one for one in family.differences if one.pair.is_tested]
    if not tested:
        return f"No difference in {family.metric} from {base} can be tested, because a test needs at least two seeds."
    found = [one for one in tested if one.pair.differs]
    over = f"after Holm's correction over {count_text(family.n_planned, 'planned test')}"
    if not found:
        return (
            f"No masking differs from {base} on {family.metric} at 5 % {over}. This does not show that the maskings "
            "are equal: the intervals give the differences that the data do not rule out."
        )
    more = f"; and {len(found) - LISTED} more in the table" if len(found) > LISTED else ""
    named = "; ".join(_described(one, family.metric) for one in found[:LISTED])
    verb = "is" if len(found) == 1 else "are"
    differences = f"{len(found)} of {count_text(family.n_planned, 'planned difference')} from {base} on {family.metric}"
    return f"{differences} {verb} significant at 5 % {over}: {named}{more}."


def _described(one: Difference, metric: str) -> str:
    test, p = one.pair.test, p_text(one.pair.t_p_holm)
    size = paired_text(test, metric)
    return f"{pair_name(one.pair)} in {place_text(one)} ({size}, corrected p {'' if p.startswith('<') else '= '}{p})"


def _mean(family: Family, part: Part, condition: Condition, one: MaskingResult | None) -> str:
    if one is None:
        return NOTHING
    value, pair = one.estimates[family.metric], family.difference(part, condition, one.masking)
    interval = f" {interval_text(value.low, value.high, family.metric)}" if value.low is not None else ""
    return score_text(value.mean, family.metric) + interval + (DIFFERS if pair is not None and pair.differs else "")


def forest_rows(differences: Sequence[Difference], metric: str) -> list[tuple[str, float, float, float]]:
    """Return (name, difference, low, high) on the displayed scale, for the differences that have an interval."""
    scale = shown_scale(metric)
    return [
        (f"{place_text(one)}: {one.pair.first}", test.mean * scale, test.low * scale, test.high * scale)
        for one in differences
        if (test := one.pair.test).low is not None and test.high is not None
    ]
