"""Texts and tasks to measure on: a file of the user's, or news sentences that an installed package ships."""

import json
from pathlib import Path

import numpy as np

from nmg.demo.data import load_articles

SENTENCES = 4000


def news_sentences() -> list[tuple[str, str]]:
    """(sentence or two, class) from BBC News, 20 to 60 words: about as long as the sentences of ChemProt."""
    pairs = []
    for article in load_articles():
        for paragraph in article.paragraphs:
            words = paragraph.split()
            if len(words) >= 20:
                pairs.append((" ".join(words[:60]), article.label))
    rng = np.random.default_rng(0)
    return [pairs[i] for i in rng.choice(len(pairs), SENTENCES, replace=False)]


def write_task(folder: Path, n_train: int, n_validation: int) -> tuple[Path, Path]:
    """Labelled news as files that nmg reads: training and validation set."""
    pairs = news_sentences()
    files = []
    for name, part in (("train", pairs[:n_train]), ("validation", pairs[n_train : n_train + n_validation])):
        file = folder / f"{name}.jsonl"
        lines = (json.dumps({"text": text, "label": label}) for text, label in part)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files.append(file)
    return files[0], files[1]


def long_text() -> list[str]:
    """All articles, each one text: blocks cut from them are nearly all full."""
    return [" ".join(article.paragraphs) for article in load_articles()]
