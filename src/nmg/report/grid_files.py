"""Renders the files of a grid of comparisons: grid.json, grid.md, grid.csv, grid.tex and index.html."""

import json
from pathlib import Path

from nmg.base.files import write_text
from nmg.comparison.grid import GridResults
from nmg.report.csv import as_csv
from nmg.report.grid_page import grid_page
from nmg.report.html import write_html
from nmg.report.latex import as_latex
from nmg.report.markdown import as_markdown


def write_grid(out: Path, grid: GridResults) -> None:
    """Write all files of a grid; each is replaced atomically."""
    write_text(out / "grid.json", json.dumps(grid.to_json(), indent=1, allow_nan=False) + "\n")
    page = grid_page(grid)
    write_text(out / "grid.md", as_markdown(page))
    write_text(out / "grid.csv", scores_csv(grid))
    write_text(out / "grid.tex", as_latex(page.tables()))
    write_html(out / "index.html", page)


_TEST = ("t_p", "wilcoxon_p", "effect_size")
_HEADER = (
    *("comparison", "data", "model", "labelled", "adapt_steps", "masking", "metric", "n", "mean", "deviation", "low"),
    *("high", "base", "difference", "difference_low", "difference_high", *_TEST, "t_p_holm", "wilcoxon_p_holm"),
)


def scores_csv(grid: GridResults) -> str:
    """Return the content of grid.csv: one line per comparison, condition and masking; undefined values are empty."""
    lines = []
    for family in grid.families:
        for part in family.parts:
            for condition in family.settings:
                for name, one in family.maskings(part, condition).items():
                    facts = {"comparison": part.name, "data": part.data, "model": part.model, **vars(condition)}
                    facts |= {"masking": name, "metric": family.metric, **vars(one.estimates[family.metric])}
                    if pair := family.difference(part, condition, name):
                        test = pair.test
                        facts |= {"base": pair.second, "difference": test.mean}
                        facts |= {"difference_low": test.low, "difference_high": test.high}
                        facts |= {name: getattr(test, name) for name in _TEST}
                        facts |= {"t_p_holm": pair.t_p_holm, "wilcoxon_p_holm": pair.wilcoxon_p_holm}
                    lines.append(facts)
    return as_csv(_HEADER, lines)
