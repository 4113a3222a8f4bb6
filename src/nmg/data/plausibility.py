"""Checks for valid but implausible data, such as JSON read as text or line numbers read as words.

Each function returns sentences for `notices.warn_once`; the list is empty for plausible data.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from nmg.base.types import Example

SAMPLE = 200
"""Number of texts that are checked."""
MOST = 0.9
"""Minimum fraction of texts or words that must match a pattern for a warning."""
FEWEST = 20
"""Minimum number of labels or entities for a check of fractions."""
FEWEST_WORDS = 5
"""Minimum number of words for the check that most words are numbers."""
LONG_SENTENCE = 1000
"""Number of words in a file's only sentence from which blank lines are probably missing."""
MAX_UNKNOWN_SHARE = 0.05
"""Fraction of unknown tokens from which the tokenizer probably does not fit the text."""

_PLAIN = re.compile("[!-~]")
_MARKUP = re.compile(r"\s*<[/!?]?[A-Za-z][^<>]*>")
_JOINED_TAGS = re.compile(r"[,;|/][BIESLU]-")


def text_doubts(texts: Iterable[str]) -> list[str]:
    """Return a sentence on why the first `SAMPLE` texts do not look like running text, or an empty list."""
    sample = list(islice(texts, SAMPLE))

    def most(is_so: Iterable[bool]) -> bool:
        return sum(is_so) >= MOST * len(sample)

    if not sample:
        return []
    if most(map(_is_json, sample)) or sample[0].strip() in {"{", "["}:
        return [
            "its texts are JSON, so a model would train on braces and field names. If each line is a record, let the "
            "name of the file end in .jsonl."
        ]
    if most(_MARKUP.match(text) is not None for text in sample):
        return ["its texts are markup (HTML or XML). Remove the tags."]
    if most(text.strip().isdecimal() for text in sample):
        return ["nearly all its texts are numbers. Check that they are not the ids of texts."]
    n_tabs = Counter(text.count("\t") for text in sample)
    if len(sample) >= FEWEST and n_tabs[0] == 0 and n_tabs.most_common(1)[0][1] >= MOST * len(sample):
        n_columns = n_tabs.most_common(1)[0][0] + 1
        return [f"its texts have {n_columns} columns separated by tabs. Keep only the text, which a model trains on."]
    return []


def invisible_doubts(examples: Iterable[Example]) -> list[str]:
    """Return a sentence on examples without visible characters, for which a tokenizer may produce no tokens."""
    found = [example.id for example in examples if not _is_visible(example.passage)]
    if not found:
        return []
    ids = f"example {_quoted(found)} has" if len(found) == 1 else f"examples {_quoted(found)} have"
    return [f"{ids} no visible character, so a tokenizer may find no token there (examples: {len(found)})"]


def label_doubts(labels: Sequence[str]) -> list[str]:
    """Return sentences on labels that do not look like classes."""
    counts = Counter(labels)
    if len(labels) >= FEWEST and len(counts) > len(labels) / 2:
        return [
            f"{len(labels)} texts have {len(counts)} different labels, which may be ids, numbers or texts. "
            "Check that data.label_field is the field of the labels."
        ]
    of_one_spelling: dict[str, list[str]] = {}
    for label in counts:
        of_one_spelling.setdefault(label.casefold(), []).append(label)
    return [
        f"the labels {_quoted(same)} differ only in upper and lower case, but count as different classes"
        for same in of_one_spelling.values()
        if len(same) > 1
    ]


def tag_doubts(sentences: Sequence[Sequence[str]], entity_types: Sequence[str]) -> list[str]:
    """Return sentences on words and tags that seem to come from the wrong columns.

    Args:
        sentences: the words of each sentence.
        entity_types: the type of each entity, in any order.

    Returns:
        The sentences; empty for plausible words and tags.
    """
    doubts = []
    n_words = sum(map(len, sentences))
    if n_words >= FEWEST_WORDS and sum(word.isdecimal() for words in sentences for word in words) >= MOST * n_words:
        doubts.append("nearly all its words are numbers. Check that data.word_column is the column of the words.")
    if len(sentences) == 1 and n_words >= LONG_SENTENCE:
        doubts.append(f"all {n_words} words are one sentence. Check for blank lines between sentences.")
    joined = sorted({kind for kind in entity_types if _JOINED_TAGS.search(kind)})
    if joined:
        doubts.append(
            f"{len(joined)} of {len(set(entity_types))} entity types combine several tags ({_quoted(joined)}) and "
            "count as separate types"
        )
    elif len(entity_types) >= FEWEST and len(set(entity_types)) > len(entity_types) / 2:
        doubts.append(
            f"{len(entity_types)} entities have {len(set(entity_types))} different types, which may be ids or words. "
            "Check that data.tag_column (columns) or data.label_field (lists) gives the tags."
        )
    return doubts


def unknown_doubts(share: float, unknown_token: str) -> list[str]:
    """Return a sentence if the fraction of unknown tokens, `share`, is at least `MAX_UNKNOWN_SHARE`."""
    if share < MAX_UNKNOWN_SHARE:
        return []
    return [
        f"{share:.0%} of the tokens of the text are {unknown_token}, unknown to this model's tokenizer. Choose a model "
        "for the language and script of the text."
    ]


def _is_visible(text: str) -> bool:
    """Return whether the text has a character other than white space, marks and control characters."""
    if _PLAIN.search(text):
        return True
    return any(unicodedata.category(character)[0] not in "CMZ" for character in text)


def _is_json(text: str) -> bool:
    """Return whether the text is a JSON object or a list that starts with one."""
    if not re.match(r"\s*(\[\s*)?\{", text):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _quoted(names: Sequence[str], most: int = 3) -> str:
    """Return the first `most` names in quotes, separated by commas."""
    shown = ", ".join(f"'{name[:40]}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown}, …"
