"""Finds entities in word labels and computes their F1, as seqeval does in its default mode (Nakayama, 2018).

That mode accepts IOB, IOBES and mixtures of both. It treats labels that break the scheme as conlleval does (Tjong Kim
Sang, 2000): an I after O, or after an entity of another type, starts a new entity.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Entity(NamedTuple):
    """A labelled span of words."""

    type: str
    first: int
    """Index of the first word in the sentence, from 0."""
    last: int
    """Index of the last word (inclusive)."""


class EntityScores(NamedTuple):
    """Precision, recall and F1 over entities, from 0 to 1."""

    precision: float
    recall: float
    f1: float


def find_entities(labels: Sequence[str]) -> list[Entity]:
    """Return the entities of a sentence, from the labels of its words.

    >>> find_entities(["B-Drug", "I-Drug", "O", "I-Gene", "B-Gene"])
    [Entity(type='Drug', first=0, last=1), Entity(type='Gene', first=3, last=3), Entity(type='Gene', first=4, last=4)]
    """
    entities: list[Entity] = []
    before, kind_before = "O", ""
    for place, label in enumerate(labels):
        prefix, _, kind = label.partition("-")
        if prefix != "O":
            if prefix in "BS" or before in "OES" or kind != kind_before:
                entities.append(Entity(kind, place, place))
            else:
                entities[-1] = entities[-1]._replace(last=place)
        before, kind_before = prefix, kind
    return entities


def entity_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> EntityScores:
    """Return the scores over the entities of all sentences.

    An entity is correct if its type, first word and last word match. 0/0 counts as 0.
    """
    pairs = [(set(find_entities(g)), set(find_entities(p))) for g, p in zip(gold, predicted, strict=True)]
    n_right = sum(len(g & p) for g, p in pairs)
    n_gold, n_predicted = sum(len(g) for g, _ in pairs), sum(len(p) for _, p in pairs)
    return EntityScores(
        precision=n_right / max(n_predicted, 1),
        recall=n_right / max(n_gold, 1),
        f1=2 * n_right / max(n_gold + n_predicted, 1),
    )
