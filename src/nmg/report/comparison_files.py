"""Renders the files of a comparison: results.json, results.md, results.csv, results.tex and index.html."""

import csv
import io
import json
from pathlib import Path

from nmg.base.files import write_text
from nmg.comparison.results import ComparisonResults
from nmg.report.comparison import costs_table, pairs_table, reading, scope, scores_table, setting_title
from nmg.report.comparison_page import comparison_page
from nmg.report.latex import titled_latex
from nmg.report.page import write_page
from nmg.report.tables import Table, titled_markdown

ENVIRONMENT = ("device", "precision", "threads")
"""Columns of results.csv that describe the environment of a cell; results.json also has the versions."""


def write_comparison(out: Path, results: ComparisonResults) -> None:
    """Write all files of a comparison; each is replaced atomically."""
    write_text(out / "results.json", json.dumps(results.to_json(), indent=1, allow_nan=False) + "\n")
    write_text(out / "results.md", markdown(results))
    write_text(out / "results.csv", cells_csv(results))
    write_text(out / "results.tex", latex(results))
    write_page(out / "index.html", comparison_page(results))


def titled_tables(results: ComparisonResults) -> list[tuple[str, Table]]:
    """Return all tables with their titles, in the order that every output uses."""
    tables = []
    for result in results.settings:
        condition = setting_title(result, results.config.data.task)
        behind = f": {condition}" if condition else ""
        tables += [
            (f"Scores on the test set{behind}", scores_table(result, results.metrics)),
            (f"Pairs of maskings{behind}", pairs_table(result, results.tested, results.n_planned)),
            (f"Costs{behind}", costs_table(result, results.meta_training)),
        ]
    return tables


def markdown(results: ComparisonResults) -> str:
    """Return the content of results.md: summary, scope and all tables."""
    return titled_markdown(f"{reading(results)}\n\n{scope(results)}", titled_tables(results))


def latex(results: ComparisonResults) -> str:
    """Return the content of results.tex: all tables."""
    return titled_latex(titled_tables(results))


def cells_csv(results: ComparisonResults) -> str:
    """Return the content of results.csv: one line per cell; undefined values are empty."""
    phases = list(results.cells[0].seconds) if results.cells else []
    header = ["masking", "seed", "labelled", "adapt_steps", "n_labelled", *results.metrics, "held_out_loss", "lm_loss"]
    header += ["lm_steps", "task_steps", "tokens", "masked_tokens", *(f"seconds_{phase}" for phase in phases)]
    header += ENVIRONMENT
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for cell in results.cells:
        facts = {**vars(cell), **cell.scores} | {f"seconds_{phase}": cell.seconds[phase] for phase in phases}
        facts |= {name: cell.environment.get(name) for name in ENVIRONMENT}
        writer.writerow([facts[name] for name in header])
    return text.getvalue()
