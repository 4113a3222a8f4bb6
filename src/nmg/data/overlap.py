"""How much of the texts that score a model it has seen before: what the user is told of it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from nmg.data.twins import near, same
from nmg.reporter import Reporter

SIDES = ("test", "validation", "train", "corpus")
"""What a later side has in common with an earlier one makes the scores on the earlier one too good."""
FREE = {("train", "corpus")}
"""sides that may overlap: both are trained on"""


@dataclass(frozen=True)
class Overlap:
    """Texts of one side of a split that are on another side too."""

    side: str
    other: str
    n: int
    """texts of `side`"""
    same: int
    """of these the same as one of the other side, but for entity marks, case, digits, punctuation and white space"""
    near: int
    """of these near duplicates, those that are the same included"""

    def line(self) -> str:
        """What it is and what to do, as a sentence."""
        where = "the corpus" if self.other == "corpus" else self.other
        if self.same == self.n:
            found = f"every {self.side} text is in {where}"
        else:
            found = (
                f"{self.near} of {self.n} {self.side} texts ({self.near / self.n:.1%}) have a twin in {where}, "
                f"{self.same} of them the same but for entity marks, case, digits, punctuation and spaces"
            )
        return (
            f"warning: {found}: scores on {self.side} are of texts that were seen before. "
            f"'--data.drop_duplicates true' leaves the twins out of {where}"
        )


def overlaps(sides: Mapping[str, Collection[str]]) -> list[Overlap]:
    """All overlaps of these sides (names of `SIDES`), those of 0 texts left out."""
    pairs = [pair for pair in combinations([name for name in SIDES if name in sides], 2) if pair not in FREE]
    found = [overlap(side, other, sides[side], sides[other]) for side, other in pairs]
    return [one for one in found if one.near]


def overlap(side: str, other: str, texts: Collection[str], others: Collection[str]) -> Overlap:
    return Overlap(side, other, len(texts), int(same(texts, others).sum()), int(near(texts, others).sum()))


def say_overlaps(sides: Mapping[str, Collection[str]], reporter: Reporter) -> None:
    """Tell of each, for the test set first."""
    for one in overlaps(sides):
        reporter.notify(one.line())


def near_duplicates_text(leakage: Mapping[str, Any]) -> str:
    """What an audit counted (`leakage` of audit.json), in the words of every page and card."""
    return f"{leakage['near']} of {leakage['validation']} validation examples have a near duplicate in training"
