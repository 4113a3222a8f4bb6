"""Table of the terms of a domain: how well the model predicts them before and after an adaptation."""

from collections.abc import Mapping
from typing import Any

from nmg.report.document import Table

SHOWN = 5
"""Number of terms at each end of a short table."""


def terms_table(terms: Mapping[str, Any], shown: int | None = None) -> Table:
    """Return the terms in the order of their gain.

    Args:
        terms: The entry `terms` of nmg.json.
        shown: Number of terms that gained most, and of terms that gained least; all if None.

    Returns:
        A table for pages, cards and the terminal.
    """
    measured = sorted(terms["measured"], key=lambda one: (-_gain(one), one["term"]))
    n_all = len(measured)
    caption = f"Terms ({terms['source']}): {n_all} measured, the largest gain first"
    if shown is not None and n_all > 2 * shown:
        measured = [*measured[:shown], *measured[-shown:]]
        caption = (
            f"Terms ({terms['source']}): the {shown} that gained most and the {shown} that gained least of {n_all}"
        )
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
    return Table(header, rows, (note,), caption, n_words=2)


def _gain(one: Mapping[str, Any]) -> float:
    """Return the increase of the log-probability of a term, in nats."""
    return float(one["log_probability"]["after"] - one["log_probability"]["before"])
