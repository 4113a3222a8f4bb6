"""Renders the tables of a document for LaTeX."""

from collections.abc import Iterable

from nmg.report.document import Table

_SYMBOLS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "–": "--",
    "·": r"$\cdot$",
    "†": r"$\dagger$",
}


def as_latex(tables: Iterable[Table]) -> str:
    """Return the tables as the content of a LaTeX file, with a comment that names the required package."""
    return "\n".join(["% \\usepackage{booktabs}", *map(latex_table, tables)])


def latex_table(table: Table) -> str:
    """Return a LaTeX table for the package booktabs; the notes follow the caption."""
    table = table.without_empty_columns()
    columns = "l" * table.n_words + "r" * (len(table.header) - table.n_words)
    text = " ".join((f"{table.caption}.", *table.notes))
    rows = [
        [rf"\textbf{{{_cell(cell)}}}" if strong else _cell(cell) for cell, strong in row] for row in table.named_cells()
    ]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escape(text)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(map(_cell, table.header)),
            r"\midrule",
            *map(_row, rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Escape the special characters of LaTeX."""
    return "".join(_SYMBOLS.get(character, character) for character in text)


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: str) -> str:
    # LaTeX would read a bracket at the start of a row as an option of the previous row.
    return ("{}" if cell.startswith("[") else "") + escape(cell)
