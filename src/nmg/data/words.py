"""Finds the starts of words and cuts texts between words.

Words are those of the tokenizer, split further if the tokenizer only knows spaces.

Tokenizers of the BERT and GPT-2 families split text at spaces and punctuation before they look for pieces. Those of the
SentencePiece family (XLM-RoBERTa, ALBERT, DeBERTa v2 and v3) split only at spaces. With them, "hello," or a sentence in
Chinese would be one word. For these tokenizers a word therefore also ends between letters or digits and other
characters. An apostrophe between letters counts as a letter ("don't"). For every tokenizer, in scripts that are written
without spaces, each token that begins with a letter is a word: finding real words would require a dictionary.
"""

import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nmg.base.types import BoolArray, IntArray

_SPACE, _LETTER, _MARK, _UNSPACED, _OTHER = range(5)
_UNSPACED_RANGES = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai and Lao, Burmese, Khmer
    *((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D)),  # Japanese syllables
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),  # Chinese characters
)
_APOSTROPHES = [ord("'"), ord("’")]


def word_starts(text: str, words: IntArray, offsets: IntArray, only_spaces: bool) -> BoolArray:
    """Return bool [n]: True for each token that starts a word.

    Args:
        text: the text of the tokens.
        words: int64 [n]: the tokenizer's word index of each token; -1 if the token belongs to no word.
        offsets: int64 [n, 2]: character span of each token.
        only_spaces: whether the tokenizer splits words only at spaces.

    Returns:
        bool [n].
    """
    is_start = np.ones(len(words), dtype=np.bool_)
    is_start[1:] = (words[1:] != words[:-1]) | (words[1:] < 0)
    if text.isascii() and not only_spaces:
        return is_start
    kinds = _kinds(text)
    if not only_spaces and not (kinds == _UNSPACED).any():
        return is_start
    starts, ends = offsets[1:, 0], offsets[1:, 1]
    end_before = offsets[:-1, 1]
    has_space = kinds[np.minimum(starts, len(kinds) - 1)] == _SPACE
    first = kinds[np.minimum(starts + has_space, len(kinds) - 1)]
    last = kinds[np.maximum(end_before - 1, 0)]
    splits = (first == _UNSPACED) | ((last == _UNSPACED) & (first != _MARK))
    if only_spaces:
        splits |= has_space | (starts > end_before)
        splits |= (_plain(first) != _plain(last)) & (first != _MARK)
    # A token without a new character continues the previous token (bytes of a character). A single space sign starts
    # the word after it.
    is_own = (starts >= end_before) & (ends > starts)
    is_start[1:] |= splits & is_own & (last != _SPACE)
    return is_start


def is_unsure(text: str, starts: IntArray) -> bool:
    """Return whether the word boundaries of a text are unreliable.

    Boundaries are unreliable in scripts that are written without spaces, whose tokens count as words. They are
    unreliable, too, if the tokenizer starts a word with a mark that belongs to the previous letter.

    Args:
        text: any text.
        starts: int64 [words]: character offset of each word.
    """
    if text.isascii():
        return False
    kinds = _kinds(text)
    return bool((kinds == _UNSPACED).any() or (kinds[starts[starts < len(kinds)]] == _MARK).any())


def cut_ends(is_word_start: BoolArray, block_size: int) -> list[int]:
    """Return the end (exclusive) of each block of a text, for `is_word_start` bool [n] of the text's tokens.

    >>> cut_ends(np.array([True, True, False, False, True]), block_size=3)
    [1, 4, 5]
    """
    n_tokens = len(is_word_start)
    # word_of[i]: index of the first token of the word of token i
    word_of = np.maximum.accumulate(np.where(is_word_start, np.arange(n_tokens), 0))
    ends: list[int] = []
    start = 0
    while start < n_tokens:
        end = min(start + block_size, n_tokens)
        if end < n_tokens and word_of[end] > start:
            end = int(word_of[end])  # equals `end` if a word starts there
        ends.append(end)
        start = end
    return ends


def is_letter(text: str) -> BoolArray:
    """Return bool [characters]: True at letters and digits, but not at combining marks."""
    found: BoolArray = np.isin(_kinds(text), (_LETTER, _UNSPACED))
    return found


def is_mark(text: str) -> BoolArray:
    """Return bool [characters]: True at combining marks, which belong to the previous letter."""
    found: BoolArray = _kinds(text) == _MARK
    return found


def is_unspaced(text: str) -> BoolArray:
    """Return bool [characters]: True at letters of scripts that are written without spaces between words."""
    found: BoolArray = _kinds(text) == _UNSPACED
    return found


def has_no_spaces(text: str) -> bool:
    """Return whether at least half of the letters belong to scripts that are written without spaces between words.

    >>> has_no_spaces("天气很好"), has_no_spaces("the Chinese character 天")
    (True, False)
    """
    if text.isascii():
        return False
    n_letters = int(is_letter(text).sum())
    return n_letters > 0 and 2 * int(is_unspaced(text).sum()) >= n_letters


def _plain(kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Replace the kind of combining marks by that of letters."""
    return np.where(kinds == _MARK, _LETTER, kinds).astype(np.uint8)


def _kinds(text: str) -> npt.NDArray[np.uint8]:
    """Return the kind of each character, uint8 [characters]."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _table()[codes]
    is_letter = np.isin(kinds, (_LETTER, _MARK, _UNSPACED))
    between = np.zeros(len(codes), dtype=np.bool_)
    between[1:-1] = is_letter[:-2] & is_letter[2:]
    kinds[between & np.isin(codes, _APOSTROPHES)] = _LETTER
    return kinds


@lru_cache(maxsize=1)
def _table() -> npt.NDArray[np.uint8]:
    """Return the kind of every Unicode character, uint8 [0x110000]."""
    of_category = {"L": _LETTER, "N": _LETTER, "M": _MARK, "Z": _SPACE}
    categories = (unicodedata.category(chr(code))[0] for code in range(0x110000))
    table = np.fromiter((of_category.get(category, _OTHER) for category in categories), dtype=np.uint8, count=0x110000)
    table[[ord(sign) for sign in "\t\n\r\f\v▁"]] = _SPACE
    for first, last in _UNSPACED_RANGES:
        part = table[first : last + 1]
        part[part == _LETTER] = _UNSPACED
    return table
