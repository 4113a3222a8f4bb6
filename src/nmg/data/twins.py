"""Texts that stand on both sides of a split: the same but for marks, numbers, case and spaces, or nearly the same.

Near duplicates are candidates of MinHash (Broder 1997, "On the resemblance and containment of documents"), each checked
by its true resemblance, so that none is counted by chance.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nmg.types import BoolArray, IntArray

if TYPE_CHECKING:
    from datasketch import MinHash

Shingles: TypeAlias = frozenset[str]

SHINGLE = 3
"""words in a row; two texts resemble each other by the share of these that they have in common (Jaccard)"""
NEAR = 0.7
"""of two near duplicates: one word of twenty differs"""
BANDS, ROWS = 32, 4
"""of MinHash: a pair that resembles by r is missed with probability (1 − r⁴)³², 2 in 10 000 at `NEAR`"""

_MARKS = re.compile(r"<<|>>|\[\[|\]\]|@[A-Z-]+\$")
"""of entities, as data sets of relations have them"""
_DIGITS = re.compile(r"\d+")
_BETWEEN_WORDS = re.compile(r"[^\w]+")


def folded(text: str) -> str:
    """The text without entity marks, case, differences of digits, punctuation and white space.

    A text of nothing else is left as it is, but for white space.

    >>> folded("<<Aspirin>>  inhibits [[COX-1]].")
    'aspirin inhibits cox 0'
    """
    words = _BETWEEN_WORDS.split(_DIGITS.sub("0", _MARKS.sub(" ", text)).lower())
    return " ".join(filter(None, words)) or " ".join(text.split())


def groups(texts: Iterable[str]) -> IntArray:
    """int64 [n]: for each text the index of the first one that is the same once both are folded."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(folded(text), index) for index, text in enumerate(texts)], dtype=np.int64)


def same(texts: Iterable[str], others: Iterable[str]) -> BoolArray:
    """bool [n texts]: True where one of `others`, which may be a stream, is the same once both are folded."""
    mine = [folded(text) for text in texts]
    return _is_in(mine, set(mine).intersection(map(folded, others)))


def near(texts: Iterable[str], others: Iterable[str]) -> BoolArray:
    """bool [n texts]: True where a text is a near duplicate of one of `others`, which may be a stream.

    Texts that are the same once folded are near duplicates, too.
    """
    mine = [folded(text) for text in texts]
    return _is_in(mine, _with_near(dict.fromkeys(mine), map(folded, others)))


def _with_near(mine: Iterable[str], theirs: Iterable[str]) -> set[str]:
    """The folded texts of `mine` that have a near duplicate among `theirs`."""
    from datasketch import MinHashLSH  # imports scipy

    of_mine = {text: shingles(text) for text in mine}
    # Only what shares most of itself with the other side as a whole can resemble one text of it; the rest needs no
    # sketch.
    of_theirs = _sharing(((text, shingles(text)) for text in theirs), _union(of_mine))
    of_mine = _sharing(of_mine.items(), _union(of_theirs))
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for text, own in of_mine.items():
        index.insert(text, _sketch(own))
    return {
        text
        for own in of_theirs.values()
        for text in index.query(_sketch(own))
        if resemblance(own, of_mine[text]) >= NEAR
    }


def shingles(text: str) -> Shingles:
    """Every `SHINGLE` words in a row of a folded text; of a shorter text all its words."""
    words = text.split()
    return frozenset(" ".join(words[start : start + SHINGLE]) for start in range(max(len(words) - SHINGLE + 1, 1)))


def resemblance(first: AbstractSet[str], second: AbstractSet[str]) -> float:
    """Jaccard index of two sets that are not empty."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def _union(of_texts: dict[str, Shingles]) -> set[str]:
    return set().union(*of_texts.values())


def _sharing(of_texts: Iterable[tuple[str, Shingles]], others: AbstractSet[str]) -> dict[str, Shingles]:
    return {text: own for text, own in of_texts if len(own & others) >= NEAR * len(own)}


def _sketch(own: Shingles) -> "MinHash":
    from datasketch import MinHash

    sketch = MinHash(num_perm=BANDS * ROWS, hashfunc=zlib.crc32)
    sketch.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in own])
    return sketch


def _is_in(texts: Sequence[str], wanted: AbstractSet[str]) -> BoolArray:
    return np.array([text in wanted for text in texts], dtype=bool)
