"""Table of the terms of a domain: how well the model predicts them before and after an adaptation."""

from collections.abc import Mapping
from typing import Any

from nmg.adaptation.term_rows import term_rows
from nmg.base.files import last_part
from nmg.report.document import Table


def terms_table(terms: Mapping[str, Any], shown: int | None = None) -> Table:
    """Return the table of terms for a page or the terminal; arguments as in `term_rows`."""
    found = term_rows(terms, shown)
    caption = f"Terms ({last_part(terms['source'])}): {found.choice}"
    return Table(found.header, found.rows, (found.note,), caption, n_words=2)
