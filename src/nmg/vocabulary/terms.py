"""Reads the terms of a domain (words or phrases) from a file, or chooses words that are typical of a corpus."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from nmg.base.errors import UserError
from nmg.base.files import user_path
from nmg.base.progress import Reporter
from nmg.base.training_settings import AUTO_WORDS
from nmg.vocabulary.fragments import Ids, count_fragments, encodings
from nmg.vocabulary.words import MIN_COUNT, read_word_list

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def read_terms(setting: str) -> tuple[str, ...]:
    """Return the distinct terms of the file that `adapt.terms` names; empty for `auto:N`.

    Raises UserError if the file cannot be read or is blank.
    """
    if AUTO_WORDS.fullmatch(setting):
        return ()
    lines = (" ".join(line.split()) for _, line in read_word_list(user_path(setting)))
    return tuple(dict.fromkeys(line for line in lines if line))


def choose_terms(
    texts: Collection[str],
    general: Collection[str] | None,
    tokenizer: "PreTrainedTokenizerBase",
    n: int,
    reporter: Reporter,
) -> tuple[str, ...]:
    """Choose the words that are typical of a corpus, among those that occur at least `MIN_COUNT` times.

    With general text, the chosen words have the largest count · ln(p / q), where p and q are the frequencies of the
    word in the corpus and in general text, with one occurrence added to each count. This is the word's part of the
    Kullback-Leibler divergence of the two texts (Tomokiyo and Hurst 2003). Without general text, the chosen words are
    those that the tokenizer splits into the most pieces in total, because a vocabulary contains the frequent words of
    general text.

    Args:
        texts: The texts of the corpus.
        general: General texts; None if there are none.
        tokenizer: A fast tokenizer with a padding token.
        n: Maximum number of words.
        reporter: Receives the progress.

    Returns:
        The words, the most typical first.

    Raises:
        UserError: No word is typical of the corpus.
    """
    counted = count_fragments(texts, tokenizer, reporter.steps("counting words"))
    scores = {word.word: float(word.excess) for word in counted.words if word.count >= MIN_COUNT}
    if general is not None:
        other = count_fragments(general, tokenizer, reporter.steps("counting words of general text"))
        counts = Counter({word.word: word.count for word in other.words})
        for word in counted.words:
            if word.count >= MIN_COUNT:
                p = (word.count + 1) / (counted.n_words + 1)
                q = (counts[word.word] + 1) / (other.n_words + 1)
                scores[word.word] = word.count * math.log(p / q)
    chosen = sorted((word for word, score in scores.items() if score > 0), key=lambda word: (-scores[word], word))[:n]
    if not chosen:
        raise UserError(
            f"adapt.terms auto:{n}: no word of the corpus is typical of it. Give a file with one term per line."
        )
    return tuple(chosen)


def forms_of(terms: Sequence[str], tokenizer: "PreTrainedTokenizerBase") -> list[tuple[Ids, ...]]:
    """Return the distinct forms (sequences of pieces) that the tokenizer gives each term.

    A term is read as given and with a capital first letter, each with and without a space before it. Forms with unknown
    pieces are left out, so a term may have no form.
    """
    spelled = [
        (number, before + form)
        for number, term in enumerate(terms)
        for form in dict.fromkeys([term, term[:1].upper() + term[1:]])
        for before in (" ", "")
    ]
    found: list[dict[Ids, None]] = [{} for _ in terms]
    for (number, _), encoding in zip(spelled, encodings(tokenizer, [text for _, text in spelled]), strict=True):
        ids = tuple(encoding.ids)
        if ids and tokenizer.unk_token_id not in ids:
            found[number][ids] = None
    return [tuple(forms) for forms in found]
