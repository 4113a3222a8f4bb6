"""The demo's data: splits that share nothing, a model that has not seen them, the same bytes for the same seed."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from nmg.base.errors import UserError
from nmg.data.formats.classification import read_classification
from nmg.data.formats.text import read_texts
from nmg.demo import data as demo
from nmg.demo.data import (
    GENERAL,
    MAX_WORDS,
    MIN_WORDS,
    SPLIT_SHARES,
    SPLITS,
    DemoSizes,
    demo_model_folder,
    load_articles,
    split_articles,
    write_demo_data,
)

PER_CLASS = {"train": 8, "validation": 6, "test": 10}
SIZES = DemoSizes(per_class=PER_CLASS, corpus_paragraphs=100, general_paragraphs=50)


@pytest.fixture(scope="module")
def articles():
    return load_articles()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_demo_data(tmp_path_factory.mktemp("demo"), seed=3, sizes=SIZES)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_articles_are_on_one_line_and_share_no_paragraph(articles):
    assert len(articles) > 2000
    texts = [text for article in articles for text in (article.title, *article.paragraphs)]
    assert all(text == " ".join(text.split()) and "&#" not in text and "\ufffd" not in text for text in texts)
    long_paragraphs = [text for article in articles for text in set(article.paragraphs) if len(text.split()) >= 15]
    assert max(Counter(long_paragraphs).values()) == 1


def test_splits_cover_every_article_once(articles):
    splits = split_articles(articles, seed=0)
    ids = [article.id for split in SPLIT_SHARES for article in splits[split]]
    assert sorted(ids) == sorted(article.id for article in articles)
    assert len(set(ids)) == len(ids)
    for split in SPLIT_SHARES:
        assert {article.label for article in splits[split]} == {article.label for article in articles}


def test_classification_texts(written):
    ids, texts = [], []
    for split in SPLITS:
        examples = read_classification(written.splits[split])
        counts = Counter(example.label for example in examples)
        assert len(counts) == 5
        assert set(counts.values()) == {PER_CLASS[split]}
        assert all(MIN_WORDS <= len(example.text.split()) <= MAX_WORDS for example in examples)
        assert [example.label for example in examples] != sorted(example.label for example in examples)
        ids += [example.id for example in examples]
        texts += [example.text for example in examples]
    assert len(set(ids)) == len(ids)
    assert len(set(texts)) == len(texts)


def test_the_model_has_not_seen_the_articles_that_it_is_adapted_to(written, articles):
    splits = split_articles(articles, seed=3)
    texts_of = {name: {text for one in of_split for text in one.paragraphs} for name, of_split in splits.items()}
    for split in SPLITS:
        allowed = {article.id for article in splits[split]}
        assert {example.id for example in read_classification(written.splits[split])} <= allowed
    corpus, general = list(read_texts(written.corpus)), list(read_texts(written.general))
    assert (len(corpus), len(general)) == (100, 50)
    assert set(corpus) <= texts_of["train"]
    assert set(general) <= texts_of[GENERAL]
    assert not set(general) & set.union(*(texts_of[split] for split in SPLITS))


def test_same_seed_same_bytes(written, tmp_path):
    write_demo_data(tmp_path / "again", seed=3, sizes=SIZES)
    write_demo_data(tmp_path / "other", seed=4, sizes=SIZES)
    first = contents(written.corpus.parent)
    assert len(first) == 5
    assert contents(tmp_path / "again") == first
    assert all(content != first[name] for name, content in contents(tmp_path / "other").items())


def test_a_size_beyond_the_texts_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"100000 articles on .* ask for fewer"):
        write_demo_data(tmp_path, seed=0, sizes=replace(SIZES, per_class=PER_CLASS | {"train": 100_000}))


@pytest.mark.parametrize("function", [demo_model_folder, load_articles])
def test_missing_package_says_how_to_install(monkeypatch, function):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '"):
        function()


def test_model_folder():
    config = json.loads((demo_model_folder() / "config.json").read_text())
    assert config["model_type"] == "bert"
