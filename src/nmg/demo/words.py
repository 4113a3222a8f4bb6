"""The words of the demo's corpus that the learned policy masks most and least often."""

from pathlib import Path

import numpy as np

from nmg.base.progress import Reporter
from nmg.config import Config
from nmg.demo.page import MaskedWords
from nmg.inspection.draws import views_of
from nmg.inspection.page import inspect_page, word_rates
from nmg.inspection.render import write_inspect_page
from nmg.inspection.run import Inspection, inspect_texts
from nmg.inspection.tags import Labels

SHOWN = 12
"""Number of words that are masked most, and number of words that are masked least."""
LEAST_OCCURRENCES = 10
"""Minimum number of occurrences of a shown word."""
DRAWS = 40


def inspect_masks(config: Config, corpus: Path, policy: Path, out: Path, reporter: Reporter) -> MaskedWords:
    """Write the page of `nmg inspect` for the learned policy and random masks, and return the extreme words.

    Args:
        config: The settings of the demo.
        corpus: The text file to draw masks on.
        policy: The folder of the learned policy.
        out: The HTML file.
        reporter: Receives messages.

    Returns:
        The words.
    """
    seen = inspect_texts(config, corpus, {"learned masks": policy}, ["random"], reporter, draws=DRAWS, with_tags=False)
    write_inspect_page(out, inspect_page(seen))
    return extreme_words(seen)


def extreme_words(seen: Inspection) -> MaskedWords:
    """Return the words that the first masking of an inspection masks most and least often."""
    distinct = Labels.of(word.lower() for word in seen.table.words())
    counts = np.bincount(distinct.of_word)
    rates = word_rates(distinct, views_of(seen.observed)[0], seen.table)
    kept = np.flatnonzero(counts >= min(LEAST_OCCURRENCES, counts.max()))
    # Of equally masked words, the more frequent one comes first.
    order = kept[np.lexsort((-counts[kept], -rates[kept]))]
    lowest = kept[np.lexsort((-counts[kept], rates[kept]))]
    most, least = ([(distinct.names[word], float(rates[word])) for word in words[:SHOWN]] for words in (order, lowest))
    return MaskedWords(most, least)
