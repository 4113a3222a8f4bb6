"""Exact match and F1 of SQuAD 1.1 and 2.0, as the official evaluation scripts define them.

Rajpurkar et al., EMNLP 2016 and ACL 2018.

Answers are compared after lower-casing, without ASCII punctuation, without English articles, with single spaces.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """
    >>> normalize_answer("The  U.S. Army's")
    'us armys'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction equals one of the accepted answers, else 0."""
    return _best(_same, prediction, answers)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Word-overlap F1, from 0 to 1, with the accepted answer that fits best.

    0 where no word is shared, also if neither has a word (so in 1.1; version 2.0 of the script differs).
    """
    return _best(_overlap, prediction, answers)


def scores_2(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of version 2.0, where the right answer to a question without `answers` is the empty text.

    Answers of which normalising leaves nothing do not count. Where prediction or answer has no word, F1 is 1 if neither
    has one, else 0.
    """
    accepted = [answer for answer in answers if normalize_answer(answer)] or [""]
    exact = exact_match(prediction, accepted)
    return exact, f1(prediction, accepted) if normalize_answer(prediction) and accepted != [""] else exact


def _best(metric: Callable[[str, str], float], prediction: str, answers: Sequence[str]) -> float:
    normalized = normalize_answer(prediction)
    return max(metric(normalized, normalize_answer(answer)) for answer in answers)


def _same(prediction: str, answer: str) -> float:
    return float(prediction == answer)


def _overlap(prediction: str, answer: str) -> float:
    predicted_words, answer_words = prediction.split(), answer.split()
    n_common = (Counter(predicted_words) & Counter(answer_words)).total()
    if n_common == 0:
        return 0.0
    precision, recall = n_common / len(predicted_words), n_common / len(answer_words)
    return 2 * precision * recall / (precision + recall)
