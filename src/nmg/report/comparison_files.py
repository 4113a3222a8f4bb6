"""Writes the files of a comparison: results.json, results.md, results.csv, results.tex and index.html."""

import json
from pathlib import Path

from nmg.base.files import write_text
from nmg.comparison.results import ComparisonResults, trial_json
from nmg.report.comparison_page import comparison_page
from nmg.report.csv import as_csv
from nmg.report.html import write_html
from nmg.report.latex import as_latex
from nmg.report.markdown import as_markdown

FILES = frozenset({"results.json", "results.md", "results.csv", "results.tex", "index.html"})
"""All files of a comparison."""
ENVIRONMENT = ("device", "precision", "threads")
"""Columns of results.csv that describe the environment of a trial; results.json also has the versions."""


def write_comparison(out: Path, results: ComparisonResults) -> None:
    """Write all files of a comparison into the folder `out`; each is replaced atomically."""
    write_text(out / "results.json", json.dumps(results.to_json(), indent=1, allow_nan=False) + "\n")
    page = comparison_page(results)
    write_text(out / "results.md", as_markdown(page))
    write_text(out / "results.csv", cells_csv(results))
    write_text(out / "results.tex", as_latex(page.tables()))
    write_html(out / "index.html", page)


def cells_csv(results: ComparisonResults) -> str:
    """Return the content of results.csv: one line per successful trial; undefined values are empty.

    In a grid, each line also has the name, data set and model of its part.
    """
    parts = [(one.part, [trial_json(cell) for cell in one.cells]) for one in results.parts]
    phases = next((list(cell["seconds"]) for _, cells in parts for cell in cells), [])
    metrics = dict.fromkeys(metric for setting in results.settings for metric in setting.metrics)
    header = [*(("part", "data", "model") if results.is_grid else ()), "masking", "seed", "labelled", "adapt_steps"]
    header += ["lora_rank", "n_labelled", *metrics, "held_out_loss"]
    header += ["lm_loss", "lm_steps", "task_steps", "tokens", "masked_tokens"]
    header += [*(f"seconds_{phase}" for phase in phases), *ENVIRONMENT]
    lines = []
    for part, cells in parts:
        for cell in cells:
            facts = {"part": part.name, "data": part.data, "model": part.model, **cell, **cell["scores"]}
            facts |= {f"seconds_{phase}": cell["seconds"][phase] for phase in phases}
            lines.append(facts | {name: cell["environment"].get(name) for name in ENVIRONMENT})
    return as_csv(header, lines)
