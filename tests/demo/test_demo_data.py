"""The demo's data: splits that share nothing, answers where they should be, the same bytes for the same seed."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nmg.base.errors import UserError
from nmg.data.formats.classification import read_classification
from nmg.data.formats.squad import read_squad
from nmg.data.formats.text import read_texts
from nmg.demo import data as demo
from nmg.demo.data import (
    MAX_PASSAGE_WORDS,
    MAX_WORDS,
    MIN_PASSAGE_WORDS,
    MIN_WORDS,
    SPLITS,
    Article,
    DemoSizes,
    demo_model_folder,
    load_articles,
    qa_examples,
    split_articles,
    write_demo_data,
)

SIZES = DemoSizes(
    train_per_class=8,
    validation_per_class=6,
    test_per_class=10,
    train_passages=30,
    validation_passages=10,
    test_passages=12,
    questions_per_passage=2,
    corpus_paragraphs=100,
)


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
    ids = [article.id for split in SPLITS for article in splits[split]]
    assert sorted(ids) == sorted(article.id for article in articles)
    assert len(set(ids)) == len(ids)
    for split in SPLITS:
        assert {article.label for article in splits[split]} == {article.label for article in articles}


def test_classification_texts(written):
    per_class = {"train": 8, "validation": 6, "test": 10}
    ids, texts = [], []
    for split in SPLITS:
        examples = read_classification(written.classification[split])
        counts = Counter(example.label for example in examples)
        assert len(counts) == 5
        assert set(counts.values()) == {per_class[split]}
        assert all(MIN_WORDS <= len(example.text.split()) <= MAX_WORDS for example in examples)
        assert [example.label for example in examples] != sorted(example.label for example in examples)
        ids += [example.id for example in examples]
        texts += [example.text for example in examples]
    assert len(set(ids)) == len(ids)
    assert len(set(texts)) == len(texts)


def test_questions_leave_their_answer_out(written):
    n_passages = {"train": 30, "validation": 10, "test": 12}
    passages = []
    for split in SPLITS:
        examples = read_squad(written.qa[split])  # which checks the offsets
        of_split = Counter(example.context for example in examples)
        assert len(of_split) == n_passages[split]
        assert max(of_split.values()) == 2
        assert all(MIN_PASSAGE_WORDS <= len(passage.split()) <= MAX_PASSAGE_WORDS for passage in of_split)
        passages += of_split
        for example in examples:
            (answer,), (start,) = example.answers, example.answer_starts
            assert example.context[start : start + len(answer)] == answer
            assert example.question.endswith("?")
            assert demo.BLANK in example.question
    assert len(set(passages)) == len(passages)


def test_tasks_keep_to_the_same_split_of_articles(written, articles):
    splits = split_articles(articles, seed=3)
    for split in SPLITS:
        allowed = {article.id for article in splits[split]}
        assert {example.id for example in read_classification(written.classification[split])} <= allowed
        assert {example.id.rsplit("-", 2)[0] for example in read_squad(written.qa[split])} <= allowed
    train_text = {text for article in splits["train"] for text in article.paragraphs}
    corpus = list(read_texts(written.corpus))
    assert len(corpus) == 100
    assert set(corpus) <= train_text


def test_question_of_a_known_passage():
    padding = " ".join(["The match went on and on and on."] * 5)
    sentence = "Yesterday the club paid £3.5m for John Smith in London, and Smith was glad."
    article = Article("sports-1", "sports", "Title", (f"It began. {sentence} {padding}",))
    examples = qa_examples([article], 1, 9, np.random.default_rng(0))
    # "Smith" stands twice, so it is no answer alone; "Yesterday" only begins the sentence
    assert [example.answers[0] for example in examples] == ["£3.5m", "John Smith", "London"]
    assert examples[1].question == "Yesterday the club paid £3.5m for what in London, and Smith was glad?"
    assert examples[1].answer_starts == (len("It began. Yesterday the club paid £3.5m for "),)


def test_same_seed_same_bytes(written, tmp_path):
    write_demo_data(tmp_path / "again", seed=3, sizes=SIZES)
    write_demo_data(tmp_path / "other", seed=4, sizes=SIZES)
    first = contents(written.corpus.parent)
    assert len(first) == 7
    assert contents(tmp_path / "again") == first
    assert all(content != first[name] for name, content in contents(tmp_path / "other").items())


def test_a_size_beyond_the_texts_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"100000 articles on .* ask for fewer"):
        write_demo_data(tmp_path, seed=0, sizes=DemoSizes(train_per_class=100_000))


@pytest.mark.parametrize("function", [demo_model_folder, load_articles])
def test_missing_package_says_how_to_install(monkeypatch, function):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '"):
        function()


def test_model_folder():
    config = json.loads((demo_model_folder() / "config.json").read_text())
    assert config["model_type"] == "bert"
