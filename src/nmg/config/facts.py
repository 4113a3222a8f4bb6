"""Measures a task's data: lengths, language, labels, and near duplicates between its files."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from nmg.base.settings import DataSettings
from nmg.data.formats.text import read_texts
from nmg.data.near_duplicates import groups
from nmg.data.overlap import Overlap, overlaps
from nmg.data.task_data import distinct_texts
from nmg.masking.function_words import ENGLISH
from nmg.tasks.base import TaskKind
from nmg.tasks.loaded import LoadedData
from nmg.tasks.qa import QUESTION_ANSWERING
from nmg.tasks.registry import task_kind
from nmg.tasks.regression import REGRESSION

ENGLISH_TEXT = "English"
SAMPLE = 2000
"""Number of texts whose lengths and language are measured."""
CHARACTERS_A_PIECE = 4.0
"""Characters per word piece of text in words; text in scripts without spaces has one character per piece."""
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""First words of the Unicode names of letters of scripts without spaces."""
ENGLISH_SHARE = 0.15
"""Fraction of the words that are English function words, from which a text is English."""


@dataclass(frozen=True)
class TextFacts:
    """Lengths and language of texts."""

    language: str
    """`English`, or the script of most letters, such as `Latin letters, not English`."""
    median_words: float
    pieces: int
    """Estimated number of word pieces that 95 % of the texts do not exceed."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> "TextFacts":
        """Measure the first `SAMPLE` texts."""
        sample = list(islice(texts, SAMPLE))
        script = _script(sample)
        per_piece = 1.0 if script in UNSPACED else CHARACTERS_A_PIECE
        pieces = np.percentile([len(text) for text in sample], 95) / per_piece
        median_words = float(np.median([len(text.split()) for text in sample]))
        return cls(_language(sample, script), median_words, int(np.ceil(pieces)))

    @property
    def is_english(self) -> bool:
        """Whether the texts are English."""
        return self.language == ENGLISH_TEXT


@dataclass(frozen=True)
class DataFacts:
    """What `nmg init` knows about the data."""

    text: TextFacts
    n_texts: int
    """Number of distinct training texts, or of texts of the corpus."""
    kind: TaskKind | None = None
    """The task; None for a corpus without labels."""
    n_train: int = 0
    """Number of labelled training examples."""
    n_different: int = 0
    """Number of training texts that differ in more than marks, case, digits, punctuation and spaces."""
    n_validation: int = 0
    n_test: int = 0
    n_labels: int = 0
    """Number of labels, if examples are balanced by label; else 0."""
    largest_label: float = 0.0
    """Fraction of the training examples that have the most frequent label; 0 without labels."""
    overlaps: tuple[Overlap, ...] = ()
    """Near duplicates between the parts of the data."""

    @property
    def has_questions(self) -> bool:
        """Whether model inputs have a question in addition to the text."""
        return self.kind is QUESTION_ANSWERING

    @property
    def has_numbers(self) -> bool:
        """Whether the labels are numbers."""
        return self.kind is REGRESSION


def measure_task(settings: DataSettings) -> DataFacts:
    """Read the files of a task and measure them. Raises UserError if one cannot be read or has no usable examples."""
    kind, data = task_kind(settings.task), LoadedData(settings)
    kind.check_train(data.train, settings)
    sides: dict[str, Collection[str]] = {
        name: distinct_texts(examples)
        for name, examples in (("test", data.test), ("validation", data.validation), ("train", data.train))
        if examples is not None
    }
    labels = Counter(map(kind.label_of, data.train)) if kind.few_labels == "labelled_per_class" else Counter()
    return DataFacts(
        TextFacts.of(sides["train"]),
        n_texts=len(sides["train"]),
        kind=kind,
        n_train=len(data.train),
        n_different=len(np.unique(groups(sides["train"]))),
        n_validation=len(data.validation or ()),
        n_test=len(data.test or ()),
        n_labels=len(labels),
        largest_label=max(labels.values(), default=0) / len(data.train),
        overlaps=tuple(overlaps(sides)),
    )


def measure_corpus(file: Path) -> DataFacts:
    """Read a text corpus and measure it. Raises UserError if it cannot be read."""
    texts = read_texts(file)
    return DataFacts(TextFacts.of(texts), n_texts=sum(1 for _ in texts))


def _script(texts: Sequence[str]) -> str:
    """Return the first word of the Unicode name of most letters, such as LATIN or CJK."""
    letters = (character for text in texts for character in text[:200] if character.isalpha())
    counts = Counter(unicodedata.name(letter, "OTHER").split()[0] for letter in islice(letters, 20_000))
    return counts.most_common(1)[0][0] if counts else "OTHER"


def _language(texts: Sequence[str], script: str) -> str:
    """Return `English`, or the script."""
    words = [word for text in texts for word in text.lower().split()]
    if script == "LATIN" and sum(word in ENGLISH for word in words) >= ENGLISH_SHARE * len(words):
        return ENGLISH_TEXT
    return "Latin letters, not English" if script == "LATIN" else f"{script.capitalize()} script"
