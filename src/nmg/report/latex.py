"""Tables for LaTeX."""

from collections.abc import Iterable

from nmg.report.tables import Table

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


def as_latex(table: Table, caption: str) -> str:
    """Return a LaTeX table for the package booktabs; the notes follow the caption."""
    columns = "l" + "r" * (len(table.header) - 1)
    text = " ".join((f"{caption}.", *table.notes))
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escape(text)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(table.header),
            r"\midrule",
            *map(_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def titled_latex(tables: Iterable[tuple[str, Table]]) -> str:
    """Return a LaTeX file of titled tables, with a comment that names the required package."""
    return "\n".join(["% \\usepackage{booktabs}", *(as_latex(table, title) for title, table in tables)])


def escape(text: str) -> str:
    """Escape the special characters of LaTeX."""
    return "".join(_SYMBOLS.get(character, character) for character in text)


def _row(cells: tuple[str, ...]) -> str:
    return " & ".join(_cell(cell) for cell in cells) + r" \\"


def _cell(cell: str) -> str:
    # LaTeX would read a bracket at the start of a row as an option of the previous row.
    return ("{}" if cell.startswith("[") else "") + escape(cell)
