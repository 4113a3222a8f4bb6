"""Tables and JSON of `nmg vocabulary`: pieces per word, the worst words, and tokens that added words save."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from nmg.report.document import Table
from nmg.report.numbers import percent
from nmg.vocabulary.fragments import Fragmentation, WordCount
from nmg.vocabulary.words import Proposal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""Numbers of added words in the table of savings; the number of proposed words is added to them."""


def vocabulary_tables(
    counted: Fragmentation, proposed: Sequence[Proposal], tokenizer: "PreTrainedTokenizerBase", shown: int
) -> list[Table]:
    """Return three tables: the corpus, the words that cost the most tokens, and the savings.

    Args:
        counted: The words of the corpus.
        proposed: The words to add, those that save most first.
        tokenizer: The tokenizer that split the words.
        shown: Maximum number of words in the second table.

    Returns:
        The three tables.
    """
    rows = (
        ("texts", f"{counted.n_texts:,}"),
        ("tokens", f"{counted.n_tokens:,}"),
        ("words with a letter", f"{counted.n_words:,}"),
        ("distinct words", f"{len(counted.words):,}"),
        ("pieces per word", f"{counted.pieces_per_word:.3f}"),
        ("pieces per distinct word", f"{counted.pieces_per_distinct_word:.3f}"),
        ("words that are split", percent(counted.split_share)),
        ("words with an unknown piece", percent(counted.unknown_share)),
    )
    worst = tuple(
        (word.word, _split(word, tokenizer), f"{word.count:,}", f"{word.pieces / word.count:.3g}", f"{word.excess:,}")
        for word in counted.worst(shown)
    )
    savings = tuple((f"{n:,}", f"{saved:,}", percent(share)) for n, saved, share in _savings(counted, proposed))
    about = "Words that cost the most tokens (excess: tokens saved if each were one token)"
    return [
        Table(("", "value"), rows, caption="Fragmentation"),
        Table(("word", "usual pieces", "count", "pieces", "excess"), worst, caption=about, n_words=2),
        Table(("words added", "tokens saved", "of all tokens"), savings, caption="Savings by adding whole words"),
    ]


def vocabulary_json(
    counted: Fragmentation, proposed: Sequence[Proposal], tokenizer: "PreTrainedTokenizerBase"
) -> dict[str, Any]:
    """Return the content of the JSON file: fragmentation, proposed words with counts and savings, and total savings.

    Args:
        counted: The words of the corpus.
        proposed: The words to add, those that save most first.
        tokenizer: The tokenizer that split the words.

    Returns:
        A mapping of JSON values.
    """
    of_word = {word.word: word for word in counted.words}
    return {
        "texts": counted.n_texts,
        "tokens": counted.n_tokens,
        "words": counted.n_words,
        "distinct_words": len(counted.words),
        "pieces_per_word": counted.pieces_per_word,
        "pieces_per_distinct_word": counted.pieces_per_distinct_word,
        "split_share": counted.split_share,
        "unknown_share": counted.unknown_share,
        "proposed": [{**vars(one), "pieces": _split(of_word[one.word], tokenizer).split()} for one in proposed],
        "savings": [{"words": n, "tokens": saved, "share": share} for n, saved, share in _savings(counted, proposed)],
    }


def _savings(counted: Fragmentation, proposed: Sequence[Proposal]) -> list[tuple[int, int, float]]:
    """Return rows (number of added words, number of saved tokens, saved fraction of all tokens)."""
    saved = list(accumulate(one.saved for one in proposed))
    sizes = sorted({*(size for size in SIZES if size < len(saved)), len(saved)} - {0})
    return [(n, saved[n - 1], saved[n - 1] / counted.n_tokens) for n in sizes]


def _split(word: WordCount, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the usual pieces of a word, separated by spaces."""
    return " ".join(tokenizer.convert_ids_to_tokens(list(word.usual_form)))
