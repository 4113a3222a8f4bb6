"""The page of a comparison, from which Markdown, LaTeX and HTML are rendered."""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from nmg.comparison.results import ComparisonResults, SettingResult
from nmg.report.comparison import (
    condition_tables,
    differences_table,
    means_tables,
    place_text,
    scope,
    setting_text,
    setting_title,
)
from nmg.report.curve_plots import score_curves
from nmg.report.document import Block, Details, Document, Facts, Figure, Links, Paragraph, Section
from nmg.report.numbers import count_text, shown_scale
from nmg.report.plots import axis_name, forest_plot, results_plot
from nmg.report.verdicts import compare_verdict


def comparison_page(results: ComparisonResults) -> Document:
    """Build the page of a comparison; that of a grid shows means and differences and links to one page per part."""
    names = dict.fromkeys(cell.spec.masking for cell in results.cells)
    scopes = [Paragraph(text) for text in dict.fromkeys(scope(one) for one in results.parts)]
    sections = [Section("The answer", (compare_verdict(results), *scopes, _facts(results)))]
    sections += _grid_sections(results) if results.is_grid else _part_sections(results)
    if results.failures:
        failures = "\n".join(f"{name}: {problem}" for name, problem in results.failures.items())
        listing = Details("Errors", failures)
        sections.append(Section("Failures", (listing, Paragraph("Run the command again to retry."))))
    sections.append(Section("Method", _method(results), is_folded=True))
    if results.is_external:
        return Document("Comparison of methods", f"{', '.join(names)} · {results.planned[0].data}", sections)
    if results.is_grid:
        data, models = (dict.fromkeys(getattr(part, name) for part in results.planned) for name in ("data", "model"))
        return Document("Grid of comparisons", f"nmg compare · {', '.join(data)} · {', '.join(models)}", sections)
    task = results.planned[0].config.data.task
    return Document("Comparison of maskings", f"nmg compare · {', '.join(names)} · {task}", sections)


def _part_sections(results: ComparisonResults) -> list[Section]:
    """Return the sections of a comparison with a single part: learning curves, scores and costs."""
    settings = results.settings
    curves = _curves(settings)
    return [
        *([Section("Learning curves", curves)] if curves else []),
        Section("Scores", [block for one in settings for block in score_blocks(results, one)]),
        *([] if results.is_external else [Section("Costs", _costs(results), is_folded=True)]),
    ]


def _costs(results: ComparisonResults) -> list[Block]:
    return [condition_tables(results, one)[2] for one in results.settings]


def _grid_sections(results: ComparisonResults) -> list[Section]:
    """Return the sections of a grid: means and differences of each metric, and links to the pages of the parts."""
    sections = []
    for metric in results.families:
        sections.append(Section(f"Scores: {metric}", means_tables(results, metric)))
        differences: list[Block] = [differences_table(results, metric)]
        if rows := _forest_rows(results.family(metric)):
            title = f"Differences from {results.baseline}"
            caption = "Mean paired difference with its 95 % interval over seeds, not corrected for multiple tests."
            differences.insert(0, Figure(forest_plot(rows, f"difference of {axis_name(metric)}", title), caption))
        sections.append(Section(f"Differences from {results.baseline}: {metric}", differences))
    links = [(one.part.title, f"{quote(one.part.name)}/index.html") for one in results.parts]
    return [*sections, Section("Each part", (Links(tuple(links)),))]


def _forest_rows(settings: Sequence[SettingResult]) -> list[tuple[str, float, float, float]]:
    """Return (name, difference, low, high) on the displayed scale, for the differences that have an interval."""
    return [
        (f"{place_text(one)}: {pair.first}", test.mean * scale, test.low * scale, test.high * scale)
        for one in settings
        for scale in (shown_scale(one.tested),)
        for pair in one.pairs
        if (test := pair.test).low is not None and test.high is not None
    ]


def _facts(results: ComparisonResults) -> Facts:
    cells, configs = results.cells, [part.config for part in results.planned]
    tested = ", ".join(f"{metric} ({count_text(n, 'test')})" for metric, n in results.families.items())
    facts = (
        (f"{results.planned[0].noun}s", str(len({cell.spec.masking for cell in cells}))),
        ("baseline", results.baseline or "none: all pairs are tested"),
        ("seeds", str(len({cell.spec.seed for cell in cells}))),
        ("trials", str(len(cells))),
        ("tested metric", tested or "none"),
    )
    if results.is_external:
        return Facts(facts)
    return Facts(
        (
            *facts,
            ("model", ", ".join(dict.fromkeys(part.model for part in results.planned))),
            ("masking rate", ", ".join(dict.fromkeys(f"{config.masking.rate:.0%}" for config in configs))),
        )
    )


def score_blocks(results: ComparisonResults, result: SettingResult) -> list[Block]:
    """Return the scores of one condition: figure, table and table of pairs."""
    scores = {one.title: one.scores[result.tested] for one in result.maskings}
    caption = "One dot per seed; the bar is the mean" + (
        "; the dashed line is the mean of random." if "random" in scores else "."
    )
    table, pairs, _ = condition_tables(results, result)
    return [Figure(results_plot(scores, result.tested), caption), table, pairs]


def _curves(settings: Sequence[SettingResult]) -> list[Figure]:
    """Return learning curves: over labels for each number of steps, and over steps for each number of labels."""
    plots = []
    for rest in dict.fromkeys(replace(result.condition, labelled=None) for result in settings):
        along = [result for result in settings if replace(result.condition, labelled=None) == rest]
        if len(along) > 1:
            where = setting_text(rest, along[0].part.config.data.task)
            plots.append(_curve_over_labels(along, along[0].tested, f", {where}" if where else ""))
    for rest in dict.fromkeys(replace(result.condition, adapt_steps=None) for result in settings):
        along = [result for result in settings if replace(result.condition, adapt_steps=None) == rest]
        if len(along) > 1:
            where = setting_title(replace(along[0], condition=rest))
            plots.append(_curve_over_steps(along, along[0].tested, f", {where}" if where else ""))
    return plots


def _curve_over_labels(along: Sequence[SettingResult], metric: str, where: str) -> Figure:
    curves = {
        name: sorted(
            ((one.n_labelled, one.estimates[metric]) for r in along for one in r.maskings if one.masking == name),
            key=lambda point: point[0],
        )
        for name in _names(along)
    }
    title = f"Scores by number of labelled examples{where}"
    return Figure(score_curves(curves, metric, "labelled examples", title=title), f"{title}, with 95 % intervals.")


def _curve_over_steps(along: Sequence[SettingResult], metric: str, where: str) -> Figure:
    along = sorted(along, key=lambda result: result.condition.adapt_steps or 0)
    curves = {
        name: [
            (float(r.condition.adapt_steps or 0), one.estimates[metric])
            for r in along
            for one in r.maskings
            if one.masking == name
        ]
        for name in _names(along)
    }
    without = curves.pop("none", None)
    levels = {"none": without[0][1].mean} if without else {}
    title = f"Scores by number of adaptation steps{where}"
    return Figure(score_curves(curves, metric, "adaptation steps", levels, title), f"{title}, with 95 % intervals.")


def _names(along: Sequence[SettingResult]) -> list[str]:
    return list(dict.fromkeys(one.masking for result in along for one in result.maskings))


_METHOD = (
    "All maskings of a seed share the texts, the steps, the number of masked tokens, the initial weights, the task "
    "head, the order of examples and the dropout, so they differ only in which tokens are masked. Only the first "
    "metric is tested. Nothing was selected by scores on the test set: every planned trial is reported, or listed "
    "as failed."
)
_SCORES_METHOD = (
    "Runs made elsewhere gave these scores. nmg paired them by seed and item, and left none out. Whether the runs of a "
    "seed differ only in their method is not known here."
)
_GRID_METHOD = (
    "Each data set with each model is one part. The page of a part shows all pairs, costs and settings, with p values "
    "corrected over the pairs of that part. This page tests each masking against the baseline only, with p values "
    "corrected over all tests of the same metric."
)


def _method(results: ComparisonResults) -> list[Block]:
    if results.is_external:
        return [Paragraph(_SCORES_METHOD)]
    if results.is_grid:
        return [Paragraph(_METHOD), Paragraph(_GRID_METHOD)]
    seeds = sorted({cell.spec.seed for cell in results.cells})
    settings = f"# seeds: {', '.join(map(str, seeds))}\n{results.planned[0].config.to_yaml()}"
    return [Paragraph(_METHOD), Details("Settings", settings)]
