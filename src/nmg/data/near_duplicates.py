"""Finds texts that are equal after folding (marks, digits, case, spaces), and near duplicates.

Near duplicates are candidates of MinHash (Broder 1997, "On the resemblance and containment of documents"). The exact
resemblance of each candidate is checked, so there are no false positives.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nmg.base.types import BoolArray, IntArray

if TYPE_CHECKING:
    from datasketch import MinHash

Shingles: TypeAlias = frozenset[str]

SHINGLE = 3
"""Number of consecutive words in a shingle. The resemblance of two texts is the Jaccard index of their shingles."""
NEAR = 0.7
"""Minimum resemblance of near duplicates; reached if one word in twenty differs."""
BANDS, ROWS = 32, 4
"""Bands and rows of MinHash. A pair of resemblance r is missed with probability (1 − r⁴)³²: 2 in 10 000 at `NEAR`."""

_MARKS = re.compile(r"<<|>>|\[\[|\]\]|@[A-Z-]+\$")
"""Entity marks in data sets of relation classification."""
_DIGITS = re.compile(r"\d+")
_BETWEEN_WORDS = re.compile(r"[^\w]+")


def folded(text: str) -> str:
    """Return the text without entity marks and punctuation, in lower case, with numbers as 0 and single spaces.

    If nothing remains, the text is returned with only its white space normalised.

    >>> folded("<<Aspirin>>  inhibits [[COX-1]].")
    'aspirin inhibits cox 0'
    """
    words = _BETWEEN_WORDS.split(_DIGITS.sub("0", _MARKS.sub(" ", text)).lower())
    return " ".join(filter(None, words)) or " ".join(text.split())


def groups(texts: Iterable[str]) -> IntArray:
    """Return int64 [n]: for each text, the index of the first text that is equal once both are folded."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(folded(text), index) for index, text in enumerate(texts)], dtype=np.int64)


def same(texts: Iterable[str], others: Iterable[str]) -> BoolArray:
    """Return bool [n texts]: True for a text that equals one of `others` once both are folded.

    `others` may be a stream.
    """
    mine = [folded(text) for text in texts]
    return _is_in(mine, set(mine).intersection(map(folded, others)))


def near(texts: Iterable[str], others: Iterable[str]) -> BoolArray:
    """Return bool [n texts]: True for a near duplicate of one of `others`, which may be a stream.

    Texts that are equal once folded count as near duplicates.
    """
    mine = [folded(text) for text in texts]
    return _is_in(mine, _with_near(dict.fromkeys(mine), map(folded, others)))


def near_few(texts: Iterable[str], few: Iterable[str]) -> BoolArray:
    """Return bool [n texts], as `near` does, but keep in memory only `few`; `texts` may be a stream."""
    from datasketch import MinHashLSH  # imports scipy

    held = {text: shingles(text) for text in map(folded, few)}
    known = _union(held)
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for text, own in held.items():
        index.insert(text, _sketch(own))

    def is_near(text: str) -> bool:
        own = shingles(text)
        if len(own & known) < NEAR * len(own):
            return False
        return any(resemblance(own, held[other]) >= NEAR for other in index.query(_sketch(own)))

    return np.fromiter((is_near(folded(text)) for text in texts), dtype=bool)


def _with_near(mine: Iterable[str], theirs: Iterable[str]) -> set[str]:
    """Return the folded texts of `mine` that have a near duplicate in `theirs`."""
    from datasketch import MinHashLSH  # imports scipy

    of_mine = {text: shingles(text) for text in mine}
    # A text can only resemble a text of the other side if it shares most shingles with the whole side; skip all
    # others.
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
    """Return all sequences of `SHINGLE` consecutive words of a folded text; a shorter text is one shingle."""
    words = text.split()
    return frozenset(" ".join(words[start : start + SHINGLE]) for start in range(max(len(words) - SHINGLE + 1, 1)))


def resemblance(first: AbstractSet[str], second: AbstractSet[str]) -> float:
    """Return the Jaccard index of two non-empty sets."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def _union(of_texts: dict[str, Shingles]) -> set[str]:
    """Return all shingles of the texts."""
    return set().union(*of_texts.values())


def _sharing(of_texts: Iterable[tuple[str, Shingles]], others: AbstractSet[str]) -> dict[str, Shingles]:
    """Return text → shingles for each text with at least the fraction `NEAR` of its shingles in `others`."""
    return {text: own for text, own in of_texts if len(own & others) >= NEAR * len(own)}


def _sketch(own: Shingles) -> "MinHash":
    """Return the MinHash of a set of shingles."""
    from datasketch import MinHash

    sketch = MinHash(num_perm=BANDS * ROWS, hashfunc=zlib.crc32)
    sketch.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in own])
    return sketch


def _is_in(texts: Sequence[str], wanted: AbstractSet[str]) -> BoolArray:
    """Return bool [n]: True for each text that is in `wanted`."""
    return np.array([text in wanted for text in texts], dtype=bool)
