"""Pages of `nmg inspect` from made-up numbers: no model, no corpus."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nmg.base.seeding import stream
from nmg.base.types import IntArray
from nmg.inspection.draws import Observed
from nmg.inspection.render import InspectPage, Shares, Words
from nmg.inspection.tags import Labels
from nmg.inspection.tokens import TokenTable
from nmg.report.document import Facts, Table

DRAWS = 100
N_TEXTS = 45
COLOURS = ("red", "green", "blue", "amber", "violet", "white", "black", "grey")


def texts_of(texts: Sequence[str]) -> TokenTable:
    """Every word, split at spaces, is a token."""
    spans = []
    for text in texts:
        lengths = [len(word) for word in text.split(" ")]
        ends = np.cumsum([length + 1 for length in lengths]) - 1
        spans.append(np.stack([ends - lengths, ends], axis=1))
    return table_of(texts, spans)


def table_of(texts: Sequence[str], spans: Sequence[IntArray], word: IntArray | None = None) -> TokenTable:
    """The tokens at these spans; each is a word, unless `word` has the number of its word."""
    bounds = np.concatenate([[0], np.cumsum([len(of_text) for of_text in spans])])
    word = np.arange(bounds[-1]) if word is None else word
    return TokenTable(tuple(texts), np.arange(len(texts)), bounds, np.concatenate(spans), word)


def policy_of(name: str, sizes: Sequence[int], k: int, seed: int) -> Observed:
    rng = stream(seed, "policy")
    probabilities = _for_each(sizes, lambda size: rng.dirichlet(np.ones(size)))
    return replace(
        rule_of(name, sizes, k, seed),
        about=f"the learned policy {name}",
        probability=np.concatenate(probabilities),
        taken=np.concatenate([np.argsort(np.argsort(-p)) < k for p in probabilities]),
    )


def rule_of(name: str, sizes: Sequence[int], k: int, seed: int) -> Observed:
    rng = stream(seed, "rule")
    drawn = _for_each(sizes, lambda size: rng.multinomial(DRAWS * k, np.full(size, 1 / size)))
    return Observed(name, f"the rule {name}", DRAWS, np.concatenate(drawn))


def _for_each(sizes: Sequence[int], draw: Callable[[int], Any]) -> list[Any]:
    """What `draw` gives for each size; texts beyond the first hundred of a size share what these have."""
    drawn: dict[int, list[Any]] = {}
    found = []
    for number, size in enumerate(sizes):
        of_size = drawn.setdefault(size, [])
        if len(of_size) < 100:
            of_size.append(draw(size))
        found.append(of_size[number % len(of_size)] if len(of_size) == 100 else of_size[-1])
    return found


def page_of(
    table: TokenTable, k: int = 2, titles: Sequence[str] | None = None, labels: dict[str, Labels] | None = None
) -> InspectPage:
    """Two policies and a rule."""
    sizes = table.sizes.tolist()
    maskings = [policy_of("first", sizes, k, 1), policy_of("second", sizes, k, 2), rule_of("random", sizes, k, 3)]
    return InspectPage(
        title="What is masked",
        subtitle="texts.txt · a model",
        facts=Facts((("texts", str(len(sizes))),)),
        titles=titles or [f"Text {number}" for number in range(1, len(sizes) + 1)],
        table=table,
        labels=labels or {},
        maskings=maskings,
        views=[("first", 0), ("first, in use", 0), ("second", 1), ("random", 2)],
        shares=[
            Shares(
                "Part of speech",
                "A note.",
                ["noun", "verb", "none"],
                np.array([60, 30, 10]),
                np.array([[30.0, 5, 5], [0, 40, 0], [24, 12, 4], [24, 12, 4]]),
            )
        ],
        words=Words(
            ["red", "green", "blue", "rare"],
            np.array([50, 20, 9, 2]),
            np.array([[0.1, 0.8, 0.4, 1], [0, 1, 0.5, 0], [0.4, 0.4, 0.4, 0.4], [0.4, 0.5, 0.3, 0.4]]),
            "What the columns say.",
        ),
        tables=[Table(("", "nats"), (("first", "1.23"),), ("A note on entropy.",), "Entropy")],
        notices=["Parts of speech need spaCy."],
    )


def colour_texts(count: int, length: int = 8) -> list[str]:
    """Each ends with its own number, from 1."""
    rng = stream(0, "texts")
    openings = [" ".join(rng.choice(COLOURS, length - 1)) for _ in range(min(count, 100))]
    return [f"{openings[number % len(openings)]} n{number}" for number in range(1, count + 1)]
