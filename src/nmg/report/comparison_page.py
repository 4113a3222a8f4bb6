"""The HTML page of a comparison."""

from collections.abc import Sequence
from dataclasses import replace

from nmg.base.files import last_part
from nmg.comparison.results import ComparisonResults, SettingResult
from nmg.comparison.trials import Condition
from nmg.report.comparison import condition_tables, reading, scope, setting_text, setting_title
from nmg.report.curve_plots import score_curves
from nmg.report.document import Block, Details, Document, Facts, Figure, Paragraph, Section
from nmg.report.plots import results_plot


def comparison_page(results: ComparisonResults) -> Document:
    """Build the page of a comparison."""
    names = list(dict.fromkeys(cell.masking for cell in results.cells))
    sections = [Section("Summary", (Paragraph(reading(results)), Paragraph(scope(results)), _facts(results)))]
    curves = _curves(results)
    if curves:
        sections.append(Section("Learning curves", curves))
    sections.append(Section("Scores", [b for r in results.settings for b in score_blocks(results, r)]))
    sections.append(Section("Costs", [condition_tables(results, r)[2] for r in results.settings]))
    if results.failures:
        failures = "\n".join(f"{name}: {problem}" for name, problem in results.failures.items())
        listing = Details("Errors", failures)
        sections.append(Section("Cells that failed", (listing, Paragraph("Run the command again to retry them."))))
    sections.append(Section("Method", _method(results)))
    subtitle = f"{', '.join(names)} · {results.config.data.task}"
    return Document("Comparison of maskings", subtitle, sections)


def _facts(results: ComparisonResults) -> Facts:
    config = results.config
    return Facts(
        (
            ("maskings", str(len({cell.masking for cell in results.cells}))),
            ("seeds", str(len({cell.seed for cell in results.cells}))),
            ("cells", str(len(results.cells))),
            ("tested metric", results.tested),
            ("model", last_part(config.model.name)),
            ("masking rate", f"{config.masking.rate:.0%}"),
        )
    )


def score_blocks(results: ComparisonResults, result: SettingResult) -> list[Block]:
    """Return the scores of one condition: table, plot and table of pairs."""
    scores = {one.masking: one.scores[results.tested] for one in result.maskings}
    caption = "One dot per seed; the bar is the mean" + (
        "; the dashed line is the mean of random." if "random" in scores else "."
    )
    table, pairs, _ = condition_tables(results, result)
    return [table, Figure(results_plot(scores, results.tested), caption), pairs]


def _curves(results: ComparisonResults) -> list[Figure]:
    """Learning curves: over labels for each number of steps, and over steps for each number of labels."""
    plots = []
    for steps in dict.fromkeys(result.condition.adapt_steps for result in results.settings):
        along = [result for result in results.settings if result.condition.adapt_steps == steps]
        if len(along) > 1:
            where = setting_text(Condition(None, steps), results.config.data.task)
            plots.append(_curve_over_labels(along, results.tested, f", {where}" if where else ""))
    for labelled in dict.fromkeys(result.condition.labelled for result in results.settings):
        along = [result for result in results.settings if result.condition.labelled == labelled]
        if len(along) > 1:
            where = setting_title(replace(along[0], condition=Condition(labelled)), results.config.data.task)
            plots.append(_curve_over_steps(along, results.tested, f", {where}" if where else ""))
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


def _method(results: ComparisonResults) -> list[Block]:
    seeds = sorted({cell.seed for cell in results.cells})
    text = (
        "All maskings of a seed share the texts, the steps, the number of masked tokens, the initial weights, the task "
        "head, the order of examples and the dropout, so they differ only in which tokens are masked. Only the first "
        "metric is tested. Nothing was selected by scores on the test set: every planned cell is reported, or listed "
        "as failed."
    )
    return [
        Paragraph(text),
        Details("Settings", f"# seeds: {', '.join(map(str, seeds))}\n{results.config.to_yaml()}"),
    ]
