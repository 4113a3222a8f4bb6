"""Says whether a policy masks mostly punctuation and function words, from the sample texts of its run."""

from nmg.masking.function_words import is_function_word
from nmg.meta_training.log import RunLog
from nmg.report.numbers import percent

MOSTLY = 0.5
"""Share of the masks from which a policy is said to mask mostly punctuation and function words."""


def empty_word_share(log: RunLog) -> tuple[float, float] | None:
    """Return the shares of punctuation and function words in the sample texts, under the policy and at random.

    Returns:
        The share of the newest snapshot's mask probability, and that of random masks, from 0 to 1; None without
        samples.
    """
    if not log.snapshots:
        return None
    masked = chance = total = n = 0.0
    for text, probabilities in zip(log.texts, log.snapshots[-1]["probabilities"], strict=True):
        is_empty = _empty_words(text["tokens"], text["starts_word"])
        for empty, maskable, probability in zip(is_empty, text["is_maskable"], probabilities, strict=True):
            if maskable:
                masked, total = masked + empty * probability, total + probability
                chance, n = chance + empty, n + 1
    return (masked / total, chance / n) if total and n else None


def empty_word_warning(log: RunLog) -> list[str]:
    """Return a warning if the policy masks mostly punctuation and function words, and more than random masks do."""
    share = empty_word_share(log)
    if share is None or share[0] < MOSTLY or share[0] <= share[1]:
        return []
    return [
        f"**The policy masks mostly punctuation and function words**: they are {percent(share[0])} of its masks and "
        f"{percent(share[1])} of random masks, in the sample texts. Such masks teach a model little about a domain."
    ]


def _empty_words(tokens: list[str], starts_word: list[bool]) -> list[bool]:
    """Return for each token whether it is punctuation or belongs to a function word."""
    words: list[str] = []
    of_token = []
    is_mark = True
    for token, starts in zip(tokens, starts_word, strict=True):
        was_mark, is_mark = is_mark, not any(character.isalnum() for character in token)
        if starts or is_mark or was_mark:  # punctuation follows a word without a space
            words.append("")
        words[-1] += token.lower()
        of_token.append(len(words) - 1)
    return [is_function_word(words[word]) for word in of_token]
