"""Offsets of tokens that are off by a character, mended from the text.

Some tokenizers give offsets that begin one late (or end one early) at the first token of a word, e.g. if two steps each
trim the space before it. Answers read from such offsets lose letters.
"""

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from nmg.data.words import is_letter
from nmg.types import IntArray

_SHIFTS = ((-1, 0), (1, 0), (0, 1), (0, -1), (-1, -1), (1, 1))
"""(of the start, of the end) that are tried, the most frequent fault first"""


def mended_offsets(text: str, ids: Sequence[int], offsets: IntArray, surface: Callable[[int], str]) -> IntArray:
    """The offsets, each shifted by a character if the token is not what stands there, but is next to it.

    Args:
        text: what was tokenized.
        ids: [n] its tokens.
        offsets: int64 [n, 2]: first character of each token, and the character after its last.
        surface: token id → the text that it is for, without spaces around it.

    Returns:
        int64 [n, 2]; `offsets` itself if nothing looks wrong.
    """
    if not _is_doubtful(text, offsets):
        return offsets
    mended = offsets.copy()
    for index, (token, (start, end)) in enumerate(zip(ids, offsets.tolist(), strict=True)):
        wanted = _folded(surface(token))
        if not wanted or _folded(text[start:end]) == wanted:
            continue
        for earlier, later in _SHIFTS:
            first, last = start + earlier, end + later
            if 0 <= first < last <= len(text) and _folded(text[first:last]) == wanted:
                mended[index] = first, last
                break
    return mended


def _is_doubtful(text: str, offsets: IntArray) -> bool:
    """Whether a letter is in no token, or one of a single byte in several (tokens may be bytes of a character)."""
    letters = is_letter(text)
    edges = np.zeros(len(text) + 1, dtype=np.int64)
    np.add.at(edges, np.minimum(offsets[:, 0], len(text)), 1)
    np.add.at(edges, np.minimum(offsets[:, 1], len(text)), -1)
    n_tokens = np.cumsum(edges)[:-1][letters]
    if (n_tokens == 0).any():
        return True
    if (n_tokens == 1).all():
        return False
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)[letters]
    return bool((n_tokens[codes < 128] > 1).any())


def _folded(text: str) -> str:
    """Without case, accents and spaces around it: what normalizers of tokenizers change."""
    decomposed = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
