"""Corrects token offsets that are wrong by one character, by comparison with the text.

For the first token of a word, some tokenizers return offsets that start one character late or end one character early,
for example because two tokenization steps both trim the space before the word. Answers extracted with such offsets lose
letters.
"""

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from nmg.base.types import IntArray
from nmg.data.words import is_letter

_SHIFTS = ((-1, 0), (1, 0), (0, 1), (0, -1), (-1, -1), (1, 1))
"""Shifts of (start, end) to try, the most frequent fault first."""


def mended_offsets(text: str, ids: Sequence[int], offsets: IntArray, surface: Callable[[int], str]) -> IntArray:
    """Shift each offset by one character if the token does not match its span but does match the shifted span.

    Args:
        text: The text that was tokenized.
        ids: [n]: token ids of the text.
        offsets: int64 [n, 2]: start of each token, and its exclusive end, in characters.
        surface: Token id → the text that it represents, without surrounding spaces.

    Returns:
        int64 [n, 2]: the corrected offsets, or `offsets` itself if nothing looks wrong.
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
    """Return whether a letter is in no token, or an ASCII letter is in several (others may be split into bytes)."""
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
    """Return the text without case, accents and surrounding spaces, which normalizers of tokenizers may change."""
    decomposed = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
