"""Documents of random words without digits, which near-duplicate search does not fold into one."""

from itertools import product
from pathlib import Path

import numpy as np

from support.tiny import save_tiny_bert

WORDS = ["".join(letters) for letters in product("bdfgklmn", "aeio", "prst")]
"""128 words."""
SHARES = 1 / np.arange(2, len(WORDS) + 2)
"""Frequent words come first, as in a language: a model can learn that much in a few steps."""


def documents(n: int, seed: int = 0, n_words: int = 30, *, is_reversed: bool = False) -> list[str]:
    """Texts of random words, no two of which resemble each other; if reversed, the last words are the frequent ones."""
    rng = np.random.default_rng(seed)
    words = WORDS[::-1] if is_reversed else WORDS
    return [" ".join(rng.choice(words, n_words, p=SHARES / SHARES.sum())) for _ in range(n)]


def save_model(folder: Path) -> Path:
    """A tiny BERT that knows the words and has dropout."""
    return save_tiny_bert(folder, WORDS, hidden=16, dropout=0.1)
