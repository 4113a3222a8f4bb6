"""The HTML page of a grid: a table of means per metric, every test against the baseline, and links to comparisons."""

from urllib.parse import quote

from nmg.comparison.grid import Family, GridResults
from nmg.report.document import Block, Details, Document, Facts, Figure, Links, Paragraph, Section
from nmg.report.grid import (
    differences_table,
    forest_rows,
    means_table,
    part_title,
    reading,
    scopes,
)
from nmg.report.plots import axis_name, forest_plot


def grid_page(grid: GridResults) -> Document:
    """Build the page of a grid."""
    sections = [Section("Summary", (Paragraph(reading(grid)), _facts(grid)))]
    for family in grid.families:
        means = [means_table(family, condition, grid.base) for condition in family.settings]
        sections.append(Section(f"Scores: {family.metric}", means))
        sections.append(
            Section(f"Differences from {grid.base}: {family.metric}", _difference_blocks(family, grid.base))
        )
    links = [(part_title(part), f"{quote(part.name)}/index.html") for part in grid.parts if part.name in grid.results]
    sections.append(Section("Each comparison", (Links(tuple(links)),)))
    if grid.failures:
        failures = "\n".join(f"{name}: {problem}" for name, problem in grid.failures.items())
        listing = Details("Errors", failures)
        sections.append(Section("Failures", (listing, Paragraph("Run the command again to retry."))))
    sections.append(Section("Method", (Paragraph(_METHOD), *(Paragraph(text) for text in scopes(grid)))))
    data = ", ".join(dict.fromkeys(part.data for part in grid.parts))
    models = ", ".join(dict.fromkeys(part.model for part in grid.parts))
    return Document("Grid of comparisons", f"{data} · {models}", sections)


_METHOD = (
    "Each data set with each model is a separate comparison. Its page shows all pairs, costs and settings, with p "
    "values corrected over the pairs of that comparison. This page tests each masking against the baseline only, on "
    "the first metric of the task, with p values corrected over all tests of that metric in the grid."
)


def _facts(grid: GridResults) -> Facts:
    cells = [cell for results in grid.results.values() for cell in results.cells]
    return Facts(
        (
            ("comparisons", str(len(grid.parts))),
            ("maskings", str(len({cell.masking for cell in cells}))),
            ("seeds", str(len({cell.seed for cell in cells}))),
            ("cells", str(len(cells))),
            ("baseline", grid.base),
            ("tested", ", ".join(f"{family.metric} ({family.n_planned})" for family in grid.families) or "nothing"),
        )
    )


def _difference_blocks(family: Family, base: str) -> list[Block]:
    blocks: list[Block] = []
    if rows := forest_rows(family.differences, family.metric):
        caption = f"Mean paired difference from {base} with its 95 % interval, not corrected for multiple tests."
        plot = forest_plot(rows, f"difference of {axis_name(family.metric)}", f"Differences from {base}")
        blocks.append(Figure(plot, caption))
    return [*blocks, differences_table(family, base)]
