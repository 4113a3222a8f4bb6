"""Turns the results of an inspection into the records of its page."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from nmg.base.types import FloatArray, IntArray
from nmg.inspection import groups
from nmg.inspection.draws import Observed, View, budgets, views_of
from nmg.inspection.groups import Grouping
from nmg.inspection.overlap import (
    chance_overlap,
    correlation_matrix,
    entropies,
    mean_entropy,
    overlap_matrix,
)
from nmg.inspection.render import InspectPage, Shares, Words
from nmg.inspection.run import Inspection
from nmg.inspection.tags import Labels, Tags
from nmg.inspection.tokens import TokenTable
from nmg.report.document import Facts, Table
from nmg.report.numbers import NOTHING, decimal, percent

MOST_WORDS = 8000
"""Maximum number of distinct words on the page; the most frequent ones are kept."""
TOP_WORDS = 12
"""Number of words per masking in the table of the words masked most often."""
LEAST_OCCURRENCES = 5
"""Minimum number of occurrences of a word in the table of the words masked most often."""


def inspect_page(seen: Inspection) -> InspectPage:
    """Return the content of the page, without its layout."""
    table, observed = seen.table, seen.observed
    surface, distinct = list(table.words()), distinct_words(table)
    views = views_of(observed)
    groupings = group_tokens(table, surface, distinct, seen.tags)
    return InspectPage(
        title="What is masked",
        subtitle=f"{seen.text_file.name} · {_short_name(seen.config.model.name)}",
        facts=_facts(seen, len(distinct.names)),
        titles=block_titles(table.context_ids),
        table=table,
        labels=_labels(seen.tags),
        maskings=observed,
        views=[(view.name, view.masking) for view in views],
        shares=[_shares(grouping, views) for grouping in groupings],
        words=vocabulary_subset(distinct, views, table),
        tables=[
            top_words_table(distinct, views, table),
            overlap_table(views, observed[0], table),
            correlation_table(observed, table),
            entropy_table(observed, table),
        ],
        unit="text" if table.n_blocks == seen.n_texts else "part",
        notices=seen.notices,
    )


def distinct_words(table: TokenTable) -> Labels:
    """Return the lower-cased word of each word of the texts."""
    return Labels.of(word.lower() for word in table.words())


def group_tokens(table: TokenTable, words: Sequence[str], distinct: Labels, tags: Tags | None) -> list[Grouping]:
    """Return the groupings of the tokens that the page shows.

    Args:
        table: The tokens.
        words: The W words with their original case.
        distinct: The lower-cased word of each of the W words.
        tags: Parts of speech and entities; None leaves out the groupings by them.

    Returns:
        The groupings, in the order of the page.
    """
    found = []
    if tags is not None and tags.part_of_speech is not None:
        note = "Universal parts of speech, tagged by spaCy."
        found.append(groups.by_label("Part of speech", note, tags.part_of_speech, table))
    if tags is not None and tags.entity is not None:
        note = (
            "Types of named entities, found by spaCy. GPE: countries and cities; NORP: nationalities and groups; FAC: "
            "buildings; none: outside all entities."
        )
        found.append(groups.by_label("Named entity", note, tags.entity, table))
    counts = np.bincount(distinct.of_word)[distinct.of_word]
    return [
        *found,
        groups.by_frequency(counts, table),
        groups.by_piece(table),
        groups.by_form(words, table),
        groups.by_position(table),
    ]


def vocabulary_subset(distinct: Labels, views: Sequence[View], table: TokenTable) -> Words:
    """Return the `word_rates` of all views for the most frequent distinct words.

    Args:
        distinct: The lower-cased word of each of the W words.
        views: The maskings and greedy choices.
        table: The tokens of the texts.

    Returns:
        At most as many words as the page shows, most frequent first.
    """
    counts = np.bincount(distinct.of_word)
    kept = np.argsort(-counts, kind="stable")[:MOST_WORDS]
    rates = [word_rates(distinct, view, table)[kept] for view in views]
    note = (
        "Masked: share of the word's occurrences that is masked, averaged over draws; an occurrence with some masked "
        "pieces counts in part. To mean: this share divided by that of all tokens. Choose a word to see its texts."
    )
    if len(counts) > MOST_WORDS:
        note += f" Only the {MOST_WORDS:,} most frequent of {len(counts):,} words are listed."
    return Words([distinct.names[word] for word in kept], counts[kept], np.array(rates), note)


def word_rates(distinct: Labels, view: View, table: TokenTable) -> FloatArray:
    """Compute how much of each distinct word is masked.

    Args:
        distinct: The lower-cased word of each of the W words.
        view: The masking or greedy choice.
        table: The tokens of the texts.

    Returns:
        float [distinct words]: share of the word's tokens that is masked, from 0 to 1, averaged over its occurrences.
    """
    of_occurrence = np.bincount(table.word, weights=view.inclusion) / table.pieces
    rates: FloatArray = np.bincount(distinct.of_word, weights=of_occurrence) / np.bincount(distinct.of_word)
    return rates


def top_words_table(distinct: Labels, views: Sequence[View], table: TokenTable) -> Table:
    """Return a table of the words that each view masks most often.

    Words that occur fewer than `LEAST_OCCURRENCES` times are left out, unless no word occurs that often.

    Args:
        distinct: The lower-cased word of each of the W words.
        views: The views, one row each.
        table: The tokens of the texts.

    Returns:
        The table.
    """
    counts = np.bincount(distinct.of_word)
    least = min(LEAST_OCCURRENCES, int(counts.max()))
    rows = []
    for view in views:
        rates = np.where(counts >= least, word_rates(distinct, view, table), -1.0)
        best = [word for word in np.argsort(-rates, kind="stable")[:TOP_WORDS].tolist() if rates[word] > 0]
        rows.append((view.name, ", ".join(f"{distinct.names[word]} {percent(rates[word])}" for word in best)))
    return Table(
        ("", "words with the share of their occurrences that is masked"),
        tuple(rows),
        (f"The {TOP_WORDS} words with the highest share among those that occur at least {least:,} times.",),
        "Words masked most often",
    )


def overlap_table(views: Sequence[View], one: Observed, table: TokenTable) -> Table:
    """Return a table with the overlap of each pair of views, as a share of the budget and relative to chance.

    Args:
        views: The views, one row and one column each.
        one: Any of the maskings, from which the budget is read; the budget is the same for every masking.
        table: The tokens of the texts.

    Returns:
        The table.
    """
    budget = budgets(one, table)
    chance = chance_overlap(table.sizes, budget)
    matrix = overlap_matrix(views, budget)
    names = [view.name for view in views]
    rows = [
        (name, *(f"{percent(share)} (×{decimal(share / chance, 2)})" for share in row))
        for name, row in zip(names, matrix, strict=True)
    ]
    return Table(
        ("", *names),
        tuple(rows),
        (
            "Share of masked tokens that two independent plans have in common, and in brackets its ratio to chance: "
            f"two unrelated plans share {percent(chance)}. The diagonal compares two plans of the same masking, and "
            "is 100 % if it always masks the same tokens. In use: the tokens that a policy with greedy selection "
            "masks.",
        ),
        "Agreement: shared tokens",
    )


def correlation_table(observed: Sequence[Observed], table: TokenTable) -> Table:
    """Return a table with the rank correlation of each pair of maskings."""
    names = [one.name for one in observed]
    matrix = correlation_matrix(observed, table)
    rows = [(name, *(decimal(rho, 3) for rho in row)) for name, row in zip(names, matrix, strict=True)]
    return Table(
        ("", *names),
        tuple(rows),
        (
            "Spearman's ρ of the tokens of a text, ranked by probability (policies) or by number of draws that mask "
            "them (rules), averaged over texts. 1: the same order; 0: unrelated orders. The ranks of rules are "
            "estimated from few draws, which moves ρ towards 0.",
        ),
        "Agreement: ranks",
    )


def entropy_table(observed: Sequence[Observed], table: TokenTable) -> Table:
    """Return a table with the entropy of one draw (policies only) and of the distribution of masks over tokens."""
    rows = []
    for one in observed:
        cells = [NOTHING, NOTHING, NOTHING]
        if one.probability is not None:
            of_block = entropies(one.probability, table)
            nats, share = mean_entropy(of_block, table.sizes)
            cells = [decimal(nats, 2), percent(share), decimal(np.exp(of_block).mean(), 1)]
        nats, share = mean_entropy(entropies(one.inclusion, table), table.sizes)
        rows.append((one.name, *cells, decimal(nats, 2), percent(share)))
    return Table(
        ("", "one draw, nats", "of ln n", "exp: tokens", "masks, nats", "of ln n"),
        tuple(rows),
        (
            "One draw: entropy of the policy's probabilities over the n tokens of a text, averaged over texts. Its "
            "maximum is ln n; its exp is the effective number of tokens that the policy chooses from. Masks: entropy "
            "of the share of each token in all masks drawn (slightly low, because draws are few).",
        ),
        "Entropy",
    )


def _labels(tags: Tags | None) -> dict[str, Labels]:
    named = {} if tags is None else {"part of speech": tags.part_of_speech, "named entity": tags.entity}
    return {name: labels for name, labels in named.items() if labels is not None}


def block_titles(context_ids: IntArray) -> list[str]:
    """Return the title of each block: `Text 1`, or `Text 1, part 2 of 3` if the text has several blocks."""
    parts, seen = Counter(context_ids.tolist()), Counter[int]()
    titles = []
    for context_id in context_ids.tolist():
        seen[context_id] += 1
        part = f", part {seen[context_id]} of {parts[context_id]}" if parts[context_id] > 1 else ""
        titles.append(f"Text {context_id + 1}{part}")
    return titles


def _shares(grouping: Grouping, views: Sequence[View]) -> Shares:
    masked: FloatArray = np.array([grouping.masked(view.inclusion) for view in views])
    return Shares(grouping.title, grouping.note, grouping.names, grouping.counts(), masked)


def _facts(seen: Inspection, n_distinct: int) -> Facts:
    table = seen.table
    budget = budgets(seen.observed[0], table)
    texts = f"{seen.n_texts:,}" + (f" (random, of {seen.n_texts + seen.n_left_out:,})" if seen.n_left_out else "")
    items = [
        ("texts", texts),
        ("tokens", f"{table.n_tokens:,}"),
        ("words", f"{len(table.pieces):,}, {n_distinct:,} distinct"),
        ("masking rate", percent(seen.config.masking.rate)),
        ("masked per text", f"{decimal(budget.mean(), 1)} of {decimal(table.sizes.mean(), 1)} tokens"),
        ("draws", f"{seen.draws:,}"),
    ]
    if table.n_blocks > seen.n_texts:
        items.insert(1, ("parts", f"{table.n_blocks:,}"))
    return Facts(tuple(items))


def _short_name(model: str) -> str:
    """Return the last two parts of a folder or hub name."""
    return "/".join(model.rstrip("/").split("/")[-2:])
