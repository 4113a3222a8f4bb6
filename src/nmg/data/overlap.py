"""Reports how many evaluation texts also occur in the training data."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from nmg.base.progress import Reporter
from nmg.data.near_duplicates import near, same

SIDES = ("test", "validation", "train", "corpus")
"""Parts of the data, evaluation first. Texts shared with a later part inflate the scores on an earlier part."""
FREE = {("train", "corpus")}
"""Pairs of parts that may overlap because both are used for training."""


@dataclass(frozen=True)
class Overlap:
    """Number of texts in one part of the data that also occur in another part."""

    side: str
    """Name of the part whose texts are counted."""
    other: str
    """Name of the part that they are compared with."""
    n: int
    """Number of texts in `side`."""
    same: int
    """Number of these texts that equal a text of `other` up to entity marks, case, digits, punctuation and white
    space."""
    near: int
    """Number of near duplicates, including equal texts."""

    def line(self) -> str:
        """Return a warning that states the overlap and how to remove it."""
        where = "the corpus" if self.other == "corpus" else self.other
        if self.same == self.n:
            found = f"every {self.side} text is in {where}"
        else:
            found = (
                f"{self.near} of {self.n} {self.side} texts ({self.near / self.n:.1%}) have a near duplicate in "
                f"{where}; {self.same} of these differ only in entity marks, case, digits, punctuation and spaces"
            )
        return (
            f"warning: {found}. Scores on {self.side} therefore include texts that the model has seen. "
            f"Set --data.drop_duplicates true to remove the near duplicates from {where}."
        )


def overlaps(sides: Mapping[str, Collection[str]]) -> list[Overlap]:
    """Return all non-empty overlaps between the given parts of the data (names from `SIDES`)."""
    pairs = [pair for pair in combinations([name for name in SIDES if name in sides], 2) if pair not in FREE]
    found = [overlap(side, other, sides[side], sides[other]) for side, other in pairs]
    return [one for one in found if one.near]


def overlap(side: str, other: str, texts: Collection[str], others: Collection[str]) -> Overlap:
    """Count the texts that also occur in another part of the data.

    Args:
        side: name of the part with `texts`.
        other: name of the part with `others`.
        texts: texts to count.
        others: texts to compare with.

    Returns:
        The overlap, which may be empty.
    """
    return Overlap(side, other, len(texts), int(same(texts, others).sum()), int(near(texts, others).sum()))


def report_overlaps(sides: Mapping[str, Collection[str]], reporter: Reporter) -> None:
    """Report each overlap to the user, the test set first."""
    for one in overlaps(sides):
        reporter.notify(one.line())


def near_duplicates_text(leakage: Mapping[str, Any]) -> str:
    """Return the near-duplicate counts of an audit (`leakage` in audit.json) as a clause for reports and cards."""
    return (
        f"{leakage['near_duplicates']} of {leakage['validation']} validation examples have a near duplicate in training"
    )
