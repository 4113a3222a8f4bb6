"""Style and colours of all figures: placeholders of the drawing, which become the colours of the page."""

from typing import Any

INK = "#010203"
SOFT = "#040506"
COLOURS = {
    INK: "currentColor",
    SOFT: "var(--line, #8884)",
    "#0a0b01": "var(--series-1, #a84c14)",
    "#0a0b02": "var(--series-2, #2a6896)",
    "#0a0b03": "var(--series-3, #6b6b6b)",
    "#0a0b04": "var(--series-4, #3c7529)",
    "#0a0b05": "var(--series-5, #8352a2)",
    "#0a0b06": "var(--series-6, #7d6612)",
}
"""Placeholder colour of the drawing → colour in the SVG."""
SERIES = tuple(colour for colour in COLOURS if colour.startswith("#0a0b"))

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # keep text as text, in the page's font
    "text.parse_math": False,  # a `$` in a name does not start a formula
    "svg.hashsalt": "nmg",  # equal figures get equal ids
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": SOFT,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
