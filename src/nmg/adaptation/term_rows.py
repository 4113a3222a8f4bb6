"""Rows of the table of terms, for the terminal, the model card and the page."""

from collections.abc import Mapping
from typing import Any, NamedTuple

SHOWN = 5
"""Number of terms at each end of a short table."""


class TermRows(NamedTuple):
    """How well the model predicts terms before and after an adaptation, the largest gain first."""

    choice: str
    """What the rows are, in words."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Texts of the cells; the first two columns are words, the others numbers."""
    note: str


def term_rows(terms: Mapping[str, Any], shown: int | None = None) -> TermRows:
    """Return the terms in the order of their gain.

    Args:
        terms: The entry `terms` of nmg.json.
        shown: Number of terms that gained most, and of terms that gained least; all if None.

    Returns:
        The rows, and what to write around them.
    """
    measured = sorted(terms["measured"], key=lambda one: (-_gain(one), one["term"]))
    n_all = len(measured)
    choice = f"{n_all} measured, the largest gain first"
    if shown is not None and n_all > 2 * shown:
        measured = [*measured[:shown], *measured[-shown:]]
        choice = f"the {shown} that gained most and the {shown} that gained least of {n_all}"
    rows = tuple(
        (
            one["term"],
            " ".join(one["pieces"]),
            str(one["occurrences"]),
            *(f"{one['log_probability'][when]:.2f}" for when in ("before", "after")),
            f"{_gain(one):+.2f}",
            *(f"{one['rank'][when]:g}" for when in ("before", "after")),
        )
        for one in measured
    )
    header = ("term", "pieces", "texts", "ln p before", "after", "gain", "rank before", "after")
    note = "ln p: mean log-probability of the right pieces, all masked at once. rank: median rank of the first piece."
    return TermRows(choice, header, rows, note)


def _gain(one: Mapping[str, Any]) -> float:
    """Return the increase of the log-probability of a term, in nats."""
    return float(one["log_probability"]["after"] - one["log_probability"]["before"])
