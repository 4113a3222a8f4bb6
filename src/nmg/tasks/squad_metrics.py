"""Computes exact match and F1 of SQuAD 1.1 and 2.0, as the official evaluation scripts define them.

The scripts are by Rajpurkar et al. (EMNLP 2016 and ACL 2018).

Answers are compared in lower case, without ASCII punctuation and English articles, and with single spaces.

In scripts without spaces between words (Chinese, Japanese, Thai …) an answer would be one word, and F1 would equal
exact match. For such scripts, `normalize_characters` makes every character a word, as the evaluation of MLQA does for
Chinese (Lewis et al., ACL 2020).
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from nmg.data.words import is_mark, is_unspaced

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Normalize an answer as the SQuAD script does.

    >>> normalize_answer("The  U.S. Army's")
    'us armys'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def normalize_characters(text: str) -> str:
    """Normalize as MLQA does for Chinese: drop Unicode punctuation and make each character without spaces a word.

    A character keeps its combining marks. Text in other scripts is split at spaces, and keeps its articles.

    >>> normalize_characters("2008年，北京 Olympics")
    '2008 年 北 京 olympics'
    """
    text = "".join(character for character in text.lower() if not _is_punctuation(character))
    if text.isascii():
        return " ".join(text.split())
    parts, is_after_unspaced = [], False
    for character, unspaced, mark in zip(text, is_unspaced(text), is_mark(text), strict=True):
        parts.append(f" {character}" if unspaced or (is_after_unspaced and not mark) else character)
        is_after_unspaced = bool(unspaced or (is_after_unspaced and mark))
    return " ".join("".join(parts).split())


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


Normalize: TypeAlias = Callable[[str], str]
"""Function from an answer to its normalized words, separated by single spaces."""


def exact_match(prediction: str, answers: Sequence[str], normalize: Normalize = normalize_answer) -> float:
    """Return 1 if the normalized prediction equals an accepted answer, else 0.

    Args:
        prediction: The predicted answer.
        answers: The accepted answers, at least one.
        normalize: Applied to prediction and answers before they are compared.

    Returns:
        0.0 or 1.0.
    """
    return _best(_same, prediction, answers, normalize)


def f1(prediction: str, answers: Sequence[str], normalize: Normalize = normalize_answer) -> float:
    """Return the word-overlap F1 with the accepted answer that matches best.

    Args:
        prediction: The predicted answer.
        answers: The accepted answers, at least one.
        normalize: Applied to prediction and answers before they are compared.

    Returns:
        F1, from 0 to 1. It is 0 if no word is shared, even if neither text has a word (as in 1.1; version 2.0 differs).
    """
    return _best(_overlap, prediction, answers, normalize)


def scores_1(prediction: str, answers: Sequence[str], normalize: Normalize = normalize_answer) -> tuple[float, float]:
    """Return exact match and F1 of version 1.1.

    Args:
        prediction: The predicted answer.
        answers: The accepted answers.
        normalize: Applied to prediction and answers before they are compared.

    Returns:
        Exact match and F1, from 0 to 1; both are 0 if there is no accepted answer.
    """
    if not answers:
        return 0.0, 0.0
    return exact_match(prediction, answers, normalize), f1(prediction, answers, normalize)


def scores_2(prediction: str, answers: Sequence[str], normalize: Normalize = normalize_answer) -> tuple[float, float]:
    """Return exact match and F1 of version 2.0. The correct answer to a question without `answers` is the empty text.

    Accepted answers that are empty after normalization are ignored. If neither the prediction nor the answer has a
    word, F1 is 1. If only one of them has words, it is 0.

    Args:
        prediction: The predicted answer; empty to abstain.
        answers: The accepted answers.
        normalize: Applied to prediction and answers before they are compared.

    Returns:
        Exact match and F1, from 0 to 1.
    """
    accepted = [answer for answer in answers if normalize(answer)] or [""]
    exact = exact_match(prediction, accepted, normalize)
    is_overlap = normalize(prediction) and accepted != [""]
    return exact, f1(prediction, accepted, normalize) if is_overlap else exact


def _best(metric: Callable[[str, str], float], prediction: str, answers: Sequence[str], normalize: Normalize) -> float:
    normalized = normalize(prediction)
    return max(metric(normalized, normalize(answer)) for answer in answers)


def _same(prediction: str, answer: str) -> float:
    return float(prediction == answer)


def _overlap(prediction: str, answer: str) -> float:
    predicted_words, answer_words = prediction.split(), answer.split()
    n_common = (Counter(predicted_words) & Counter(answer_words)).total()
    if n_common == 0:
        return 0.0
    precision, recall = n_common / len(predicted_words), n_common / len(answer_words)
    return 2 * precision * recall / (precision + recall)
