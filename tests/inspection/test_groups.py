"""Groups of tokens, by hand."""

from pathlib import Path

import numpy as np
import pytest

from nmg.inspection import groups
from nmg.inspection.groups import Grouping
from nmg.inspection.tags import UNTAGGED, Labels

from .helpers import flat_table, table_of


def members(grouping: Grouping) -> list[str]:
    """The group of each token."""
    return [grouping.names[group] for group in grouping.of_token]


def test_counts_and_masked_tokens_of_groups():
    grouping = Grouping.of("t", "n", ["a", "b", "c"], np.array([0, 2, 2, 0, 2]))
    assert grouping.names == ("a", "c"), "a group of no token is left out"
    assert members(grouping) == ["a", "c", "c", "a", "c"]
    assert grouping.counts().tolist() == [2, 3]
    assert grouping.masked(np.array([0.5, 1.0, 0.25, 0.0, 0.25])) == pytest.approx([0.5, 1.5])


def test_pieces(tmp_path: Path):
    table = table_of(["The cattys sat"], tmp_path)
    whole, first, later = "whole word", "first piece of a word", "later piece of a word"
    assert members(groups.by_piece(table)) == [whole, first, later, later, whole]


def test_frequency_bands(tmp_path: Path):
    table = table_of(["cats sat on mat dog"], tmp_path)
    counts = np.array([1, 2, 3, 4, 1001])
    wanted = ["once", "once", "2–3 times", "2–3 times", "4–10 times", "1,001 or more times"]
    assert members(groups.by_frequency(counts, table)) == wanted
    assert groups.by_frequency(np.array([10, 11, 30, 1000, 301]), table).names == (
        "4–10 times",
        "11–30 times",
        "301–1,000 times",
    )


def test_positions():
    ten, two = groups.by_position(flat_table(10)), groups.by_position(flat_table(2))
    assert ten.of_token.tolist() == list(range(10))
    assert ten.names == tuple(f"{start}–{start + 10} %" for start in range(0, 100, 10))
    assert members(two) == ["0–10 %", "50–60 %"]
    assert groups.by_position(flat_table(20, 20)).counts().tolist() == [4] * 10


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("cat", "lower-case word"),
        ("Cat", "Capitalised word"),
        ("A", "Capitalised word"),
        ("McCartney", "Capitalised word"),
        ("UK", "UPPER-CASE WORD"),
        ("1897", "with a digit"),
        ("COX-2", "with a digit"),
        (".", "punctuation or symbol"),
        ("£", "punctuation or symbol"),
        ("", "punctuation or symbol"),
        ("猫", "lower-case word"),
        ("éclair", "lower-case word"),
    ],
)
def test_forms(word: str, form: str):
    assert groups.FORMS[groups.form_of(word)] == form


def test_forms_of_tokens(tmp_path: Path):
    table = table_of(["The cats sat 42 UK ."], tmp_path)
    wanted = ["Capitalised word", *["lower-case word"] * 3, "with a digit", "UPPER-CASE WORD", "punctuation or symbol"]
    assert members(groups.by_form(list(table.words()), table)) == wanted


def test_labels_most_frequent_first_and_none_last(tmp_path: Path):
    table = table_of(["The cats sat on mat ."], tmp_path)
    labels = Labels.of([UNTAGGED, "B", UNTAGGED, "A", UNTAGGED, "A"])
    grouping = groups.by_label("t", "n", labels, table)
    # "cats" is two tokens of B, so A and B have two tokens each.
    assert set(grouping.names[:2]) == {"A", "B"}
    assert grouping.names[2] == "none"
    assert members(grouping) == ["none", "B", "B", "none", "A", "none", "A"]
    more = groups.by_label("t", "n", Labels.of(["A", "B", "A", "A", "C", "C"]), table)
    assert more.names[0] == "A"
    assert more.counts()[0] == 3
