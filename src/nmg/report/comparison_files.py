"""Renders the files of a comparison: results.json, results.md, results.csv, results.tex and index.html."""

import json
from pathlib import Path

from nmg.base.files import write_text
from nmg.comparison.results import ComparisonResults
from nmg.report.comparison_page import comparison_page
from nmg.report.csv import as_csv
from nmg.report.html import write_html
from nmg.report.latex import as_latex
from nmg.report.markdown import as_markdown

ENVIRONMENT = ("device", "precision", "threads")
"""Columns of results.csv that describe the environment of a cell; results.json also has the versions."""


def write_comparison(out: Path, results: ComparisonResults) -> None:
    """Write all files of a comparison; each is replaced atomically."""
    write_text(out / "results.json", json.dumps(results.to_json(), indent=1, allow_nan=False) + "\n")
    page = comparison_page(results)
    write_text(out / "results.md", as_markdown(page))
    write_text(out / "results.csv", cells_csv(results))
    write_text(out / "results.tex", as_latex(page.tables()))
    write_html(out / "index.html", page)


def cells_csv(results: ComparisonResults) -> str:
    """Return the content of results.csv: one line per cell; undefined values are empty."""
    phases = list(results.cells[0].seconds) if results.cells else []
    header = ["masking", "seed", "labelled", "adapt_steps", "n_labelled", *results.metrics, "held_out_loss", "lm_loss"]
    header += ["lm_steps", "task_steps", "tokens", "masked_tokens", *(f"seconds_{phase}" for phase in phases)]
    header += ENVIRONMENT
    lines = []
    for cell in results.cells:
        facts = {**vars(cell), **cell.scores} | {f"seconds_{phase}": cell.seconds[phase] for phase in phases}
        facts |= {name: cell.environment.get(name) for name in ENVIRONMENT}
        lines.append(facts)
    return as_csv(header, lines)
