"""Entities by hand, and as the library seqeval finds and scores them."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from nmg.tasks.entity_metrics import entity_scores, find_entities

LABELS = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("X", "Y", "X-Y"))]
sentences = st.lists(st.lists(st.sampled_from(LABELS), max_size=8), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("labels", "entities"),
    [
        ([], []),
        (["O", "O"], []),
        (["B-X", "I-X", "O", "I-X"], [("X", 0, 1), ("X", 3, 3)]),
        (["B-X", "B-X", "I-Y"], [("X", 0, 0), ("X", 1, 1), ("Y", 2, 2)]),
        (["S-X", "I-X", "E-X", "E-X"], [("X", 0, 0), ("X", 1, 2), ("X", 3, 3)]),
    ],
)
def test_by_hand(labels: list[str], entities: list[tuple[str, int, int]]):
    assert find_entities(labels) == entities


@given(st.lists(st.sampled_from(LABELS), max_size=12))
def test_entities_are_those_of_seqeval(labels: list[str]):
    assert find_entities(labels) == get_entities(labels)


@given(st.data(), sentences)
def test_scores_are_those_of_seqeval(data: st.DataObject, gold: list[list[str]]):
    predicted = [data.draw(st.lists(st.sampled_from(LABELS), min_size=len(g), max_size=len(g))) for g in gold]
    found = entity_scores(gold, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 0 / 0
        wanted = [score(gold, predicted) for score in (precision_score, recall_score, f1_score)]
    assert found == pytest.approx(tuple(wanted))


def test_nothing_to_find():
    assert entity_scores([["O"]], [["O"]]) == (0.0, 0.0, 0.0)
    assert entity_scores([["B-X", "I-X"]], [["B-X", "O"]]) == (0.0, 0.0, 0.0)
    assert entity_scores([["B-X", "O", "B-Y"]], [["B-X", "O", "B-X"]]) == (0.5, 0.5, 0.5)
