"""What is said of texts that are on two sides of a split."""

from nmg.data.overlap import Overlap, overlaps, report_overlaps
from support.runs import Notes

LONG = "the quick brown fox jumps over the lazy dog and runs far away from every hound of the village"
SIDES = {
    "train": ["Aspirin inhibits COX-1.", LONG, "Something else."],
    "test": ["<<Aspirin>> inhibits [[COX-2]].", LONG.replace("lazy", "weary"), "New.", "Newer."],
    "corpus": ["New.", "Newest."],
}


def test_each_side_is_compared_with_those_that_it_may_have_been_learned_from():
    assert overlaps(SIDES) == [Overlap("test", "train", 4, 1, 2), Overlap("test", "corpus", 4, 1, 1)]
    assert overlaps({"validation": ["a b"], "test": ["A, b"]}) == [Overlap("test", "validation", 1, 1, 1)]
    assert overlaps({"train": ["a b"], "corpus": ["a b"]}) == []


def test_what_is_said():
    notes = Notes()
    report_overlaps(SIDES, notes)
    assert notes.lines[0] == (
        "warning: 2 of 4 test texts (50.0%) have a near duplicate in train; 1 of these differ only in entity marks, "
        "case, digits, punctuation and spaces. Scores on test therefore include texts that the model has seen. "
        "Set --data.drop_duplicates true to remove the near duplicates from train."
    )
    assert "have a near duplicate in the corpus" in notes.lines[1]


def test_a_test_file_that_is_the_training_file():
    notes = Notes()
    report_overlaps({"train": SIDES["train"], "test": SIDES["train"]}, notes)
    assert notes.lines[0].startswith("warning: every test text is in train. Scores on test therefore include texts")
