"""Texts that stand on both sides of a split, but for marks, numbers, case and spaces."""

import re
from collections.abc import Iterable

_MARKS = re.compile(r"<<|>>|\[\[|\]\]|@[A-Z]+\$")
"""of entities, as data sets of relations have them"""
_DIGITS = re.compile(r"\d+")


def folded(text: str) -> str:
    """The text without entity marks, case, differences of digits, punctuation and white space.

    >>> folded("<<Aspirin>>  inhibits [[COX-1]].")
    'aspirin inhibits cox 0'
    """
    text = _DIGITS.sub("0", _MARKS.sub(" ", text)).lower()
    return " ".join(re.sub(r"[^\w]+", " ", text).split())


def twins(texts: Iterable[str], others: Iterable[str]) -> int:
    """How many of `texts` are the same as one of `others` once both are folded."""
    known = {folded(text) for text in others}
    return sum(folded(text) in known for text in texts)
