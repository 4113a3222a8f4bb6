"""Examples, contexts and samples that follow from the settings."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nmg.base.errors import UserError
from nmg.base.settings import DataSettings
from nmg.config import load_config
from nmg.data.formats.questions import QAExample
from nmg.data.task_data import TaskData
from nmg.tasks.classification import CLASSIFICATION, labels
from nmg.tasks.load import guess_task, read_any_texts, read_examples, with_labels
from nmg.tasks.loaded import LoadedData, load_corpus_texts
from nmg.tasks.registry import task_kind
from support.files import Write


def table(*rows: tuple[str, str]) -> str:
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


@pytest.fixture
def many(write: Write) -> str:
    """60 examples: 40 of x, 19 of y, one of z; each text twice in a row."""
    marks = ["x"] * 40 + ["y"] * 19 + ["z"]
    return str(write("many.csv", table(*((f"text {i // 2}", mark) for i, mark in enumerate(marks)))))


def load(seed: int = 0, **settings: Any) -> TaskData:
    wanted = DataSettings(**settings)
    return LoadedData(wanted).sample(wanted, seed)


def test_classification(write: Write) -> None:
    train = write("train.csv", table(("one", "x"), ("two", "y"), ("one", "y")))
    data = load(train=str(train), validation=str(write("dev.csv", table(("two", "x")))))
    assert [(example.id, example.context_id) for example in data.train] == [("2", 0), ("3", 1), ("4", 0)]
    assert [(context.id, context.text) for context in data.contexts] == [(0, "one"), (1, "two")]
    assert data.validation is not None
    assert data.validation[0].context_id == -1
    assert data.test is None
    assert labels(data.train) == ["x", "y"]


def test_qa(write: Write, squad_json: str) -> None:
    file = str(write("a.json", squad_json))
    data = load(task="qa", train=file, test=file)
    assert [example.context_id for example in data.train] == [0, 0, 1]
    assert [context.text for context in data.contexts] == ["Rome is old.", "Oslo is cold."]
    assert data.test is not None
    assert len(data.test) == 3
    assert {task_kind("qa").label_of(example) for example in data.train} == {None}


ANSWER = {"text": "Rome", "char_spans": [[0, 3]]}
QUESTION = {"qid": "a", "question": "Which?", "detected_answers": [ANSWER]}
MRQA = json.dumps({"context": "Rome is old.", "qas": [QUESTION]})


def test_mrqa_by_ending(write: Write) -> None:
    (example,) = load(task="qa", train=str(write("a.jsonl", MRQA))).train
    assert isinstance(example, QAExample)
    assert example.answers == ("Rome",)


def test_train_is_needed() -> None:
    for call in (load, lambda: load_corpus_texts(DataSettings())):
        with pytest.raises(UserError, match=r"there is no training data\. Give --data\.train FILE"):
            call()


@pytest.mark.parametrize(
    ("task", "name", "wanted"),
    [
        ("qa", "a.tsv", r"\.json \(SQuAD, NewsQA, emrQA, rows\), \.jsonl"),
        ("classification", "a.conll", r"\.jsonl, \.json, \.csv, \.tsv"),
    ],
)
def test_wrong_ending(task: str, name: str, wanted: str, write: Write) -> None:
    path = write(name, "x")
    with pytest.raises(UserError, match=f"{path}: a {task} file must end in {wanted}"):
        load(task=task, train=str(path))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_label_without_training_example(part: str, many: str, write: Write) -> None:
    path = write("other.csv", table(("a", "x"), ("b", "new")))
    with pytest.raises(UserError) as error:
        load(train=many, **{part: str(path)})
    assert str(error.value) == f"{path}, line 3, field 'label': no training example has the label 'new'"


def test_one_label_is_no_task(write: Write) -> None:
    path = write("a.csv", table(("a", "x"), ("b", "x")))
    with pytest.raises(
        UserError, match=r"field 'label': classification needs at least two labels, but all .* have 'x'"
    ):
        load(train=str(path))


def test_labelled_per_class(many: str) -> None:
    data, other = load(train=many, labelled_per_class=5), load(seed=1, train=many, labelled_per_class=5)
    assert Counter(example.label for example in data.train) == {"x": 5, "y": 5, "z": 1}  # type: ignore[union-attr]
    assert data.train == load(train=many, labelled_per_class=5).train
    assert data.train != other.train
    assert len(data.contexts) == 30
    order = [int(example.id) for example in data.train]
    assert order == sorted(order)
    for example in data.train:
        assert data.contexts[example.context_id].text == example.text  # type: ignore[union-attr]


def test_labelled_per_class_leaves_other_classes_alone(many: str, write: Write) -> None:
    more = write("more.csv", Path(many).read_text() + "new,w\nnew,w\n")
    kept = load(train=str(more), labelled_per_class=5).train
    assert tuple(example for example in kept if example.label != "w") == load(train=many, labelled_per_class=5).train  # type: ignore[union-attr]


def test_labelled_examples_keep_every_label(many: str) -> None:
    for seed in range(5):
        data = load(seed, train=many, labelled_examples=4)
        assert len(data.train) == 4
        assert labels(data.train) == ["x", "y", "z"]
        assert len(data.contexts) == 30
        order = [int(example.id) for example in data.train]
        assert order == sorted(order)
    assert len(load(train=many, labelled_examples=1000).train) == 60
    assert len(load(train=many, labelled_per_class=5, labelled_examples=7).train) == 7
    with pytest.raises(UserError, match=r"data\.labelled_examples 2 is less than the number of labels, 3"):
        load(train=many, labelled_examples=2)


def test_few_shot_qa(write: Write, squad_json: str) -> None:
    file = str(write("a.json", squad_json))
    data = load(task="qa", train=file, labelled_examples=1)
    assert len(data.train) == 1
    assert len(data.contexts) == 2
    with pytest.raises(
        UserError, match=r"labelled_per_class does not apply to the task 'qa'\. Use data\.labelled_examples"
    ):
        load(task="qa", train=file, labelled_per_class=1)


@pytest.mark.parametrize(
    ("task", "field", "text"),
    [("classification", "labelled_per_class", " of each class"), ("qa", "labelled_examples", "")],
)
def test_what_few_labels_means_follows_from_the_task(task: str, field: str, text: str) -> None:
    before = DataSettings(task=task, train="a", labelled_per_class=3, labelled_examples=4)
    none = {"labelled_per_class": None, "labelled_examples": None}
    assert with_labels(before, 7) == DataSettings(task=task, train="a", **none | {field: 7})
    assert with_labels(before, None) == DataSettings(task=task, train="a", **none)
    assert task_kind(task).few_labels_text == text


def test_test_examples(many: str) -> None:
    test = load(train=many, test=many, test_examples=10).test
    assert test is not None
    assert len({example.id for example in test}) == 10
    assert test == load(train=many, test=many, test_examples=10, labelled_per_class=2).test
    assert test != load(seed=1, train=many, test=many, test_examples=10).test
    everything = load(train=many, test=many, test_examples=1000).test
    assert everything is not None
    assert len(everything) == 60


def test_corpus_texts(many: str, write: Write) -> None:
    corpus = str(write("corpus.txt", "a\nb\na\n"))
    assert list(load_corpus_texts(DataSettings(train=many, corpus=corpus))) == ["a", "b", "a"]
    texts = load_corpus_texts(DataSettings(train=many, labelled_per_class=1))
    assert texts == [f"text {i}" for i in range(30)]


LABELLED = '{"text": "one", "label": "x"}'


@pytest.mark.parametrize(
    ("name", "content", "task"),
    [
        ("a.json", '{"data": []}', "qa"),
        ("a.json", '{"version": "1.1", "data": [{"paragraphs": []}]}', "qa"),
        ("a.json", '{"data": [{"storyId": "a", "questions": []}]}', "qa"),
        ("a.json", LABELLED, "classification"),
        ("a.json", f"[{LABELLED}]", "classification"),
        ("a.json", '[{"tokens": ["a"], "tags": ["O"]}]', "token-classification"),
        ("a.csv", "anything", "classification"),
        ("a.csv", "story_text,answer_char_ranges\na,0:1", "qa"),
        ("a.conll", "anything", "token-classification"),
        ("a.jsonl", '{"tokens": ["a"], "tags": ["O"]}', "token-classification"),
        ("a.tsv", "anything", "classification"),
        ("a.jsonl", MRQA, "qa"),
        ("a.jsonl", '{"header": {"dataset": "x"}}', "qa"),
        ("a.jsonl", LABELLED, "classification"),
    ],
)
def test_the_task_is_guessed_by_ending_and_first_line(name: str, content: str, task: str, write: Write) -> None:
    assert guess_task(write(name, content)).name == task
    packed = write(f"{name}.gz", "")
    packed.write_bytes(gzip.compress(content.encode()))
    assert guess_task(packed).name == task


@pytest.mark.parametrize("name", ["a.txt", "a", "a.gz", "a.xml"])
def test_an_ending_of_no_task(name: str, write: Write) -> None:
    path = write(name, "x")
    with pytest.raises(UserError) as error:
        guess_task(path)
    assert str(error.value) == (
        f"{path}: cannot tell the task from the file extension "
        "(known: .bio, .conll, .csv, .iob, .json, .jsonl, .parquet, .tsv, .txt). Set --task."
    )


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", "one\ntwo\none\n", ["one", "two", "one"]),
        ("a.jsonl", LABELLED + "\n" + LABELLED, ["one", "one"]),
        ("a.jsonl", '{"text": "one"}', ["one"]),
        ("a.jsonl", MRQA + "\n" + MRQA.replace('"a"', '"b"'), ["Rome is old."]),
        ("a.csv", table(("one", "x"), ("two", "y"), ("one", "y")), ["one", "two"]),
    ],
)
def test_any_texts(name: str, content: str, texts: list[str], write: Write) -> None:
    assert read_any_texts(write(name, content), DataSettings()) == texts


def test_any_texts_of_a_folder_and_of_another_field(write: Write, squad_json: str) -> None:
    assert read_any_texts(write("folder/a.txt", "one").parent, DataSettings()) == ["one"]
    assert read_any_texts(write("a.json", squad_json), DataSettings()) == ["Rome is old.", "Oslo is cold."]
    path = write("a.jsonl", '{"text": "no", "body": "one", "label": "x"}')
    assert read_any_texts(path, DataSettings(text_field="body")) == ["one"]


def test_real_data(shared: Path) -> None:
    files = {part: str(shared / f"chemprot/{name}.jsonl") for part, name in [("train", "train"), ("test", "test")]}
    data = load(**files)
    assert (len(data.train), len(labels(data.train))) == (4169, 13)
    assert data.test is not None
    assert len(data.test) == 3469


LONG = "the quick brown fox jumps over the lazy dog and runs far away from every hound of the village"
NEARLY = LONG.replace("lazy", "weary")


def test_duplicates_are_dropped_from_what_is_trained_on(write: Write) -> None:
    """Test wins over validation, and both over training and corpus."""
    train = write("train.csv", table((LONG, "x"), ("kept one", "x"), ("Drug 1 binds", "y"), ("kept two", "y")))
    validation = write("dev.csv", table(("drug 22 <<binds>>", "y"), (NEARLY, "x"), ("only here", "x")))
    test = write("test.csv", table((LONG.upper(), "x"), ("also only here", "y")))
    corpus = write("corpus.txt", f"{NEARLY}\nsome domain text\n[[Drug]] 5 binds\nOnly here!\n")
    files = {name: str(path) for name, path in (("train", train), ("validation", validation), ("test", test))}

    everything = load(**files)
    assert (len(everything.train), len(everything.validation or ()), len(everything.test or ())) == (4, 3, 2)
    data = load(**files, drop_duplicates=True)
    assert [example.passage for example in data.train] == ["kept one", "kept two"]
    assert [context.text for context in data.contexts] == ["kept one", "kept two"]
    assert [example.context_id for example in data.train] == [0, 1]
    assert [example.passage for example in data.validation or ()] == ["drug 22 <<binds>>", "only here"]
    assert data.test == everything.test
    sampled = load(**files, drop_duplicates=True, test_examples=1)
    assert sampled.train == data.train, "what is dropped is of the whole test set"

    settings = DataSettings(**files, drop_duplicates=True)
    assert load_corpus_texts(settings) == ["kept one", "kept two"]
    with_corpus = settings.model_copy(update={"corpus": str(corpus)})
    assert load_corpus_texts(with_corpus) == ["some domain text"]
    assert len(load_corpus_texts(with_corpus.model_copy(update={"drop_duplicates": False}))) == 4


def test_a_training_file_of_nothing_but_duplicates(write: Write) -> None:
    train = str(write("train.csv", table(("one", "x"), ("two", "y"))))
    with pytest.raises(UserError, match=r"data\.drop_duplicates: every text of data\.train is a near duplicate"):
        load(train=train, test=train, drop_duplicates=True)
    with pytest.raises(UserError, match=r"every text of data\.validation"):
        load(train=train, validation=train, test=train, drop_duplicates=True)


def test_a_table_without_header_through_settings_of_the_command_line(write: Write):
    """CoLA: source, label, mark of the author, sentence."""
    path = write("cola.tsv", "gj04\t1\t\tThey drank the pub.\ngj04\t0\t*\tThe pub drank them.\n")
    words = ["--data.train", str(path), "--data.text_field", "4", "--data.label_field", "2"]
    data = load_config(None, words).data
    examples = LoadedData(data).sample(data, 0).train
    assert [(one.passage, one.label) for one in examples] == [
        ("They drank the pub.", "1"),
        ("The pub drank them.", "0"),
    ]


def test_data_of_another_task_are_named(tmp_path: Path):
    """Questions given to classification: the message names the task."""
    (tmp_path / "a.json").write_text('{"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": []}]}]}')
    (tmp_path / "a.jsonl").write_text('{"tokens": ["a"], "tags": ["O"]}\n')
    (tmp_path / "b.jsonl").write_text('{"txt": "a", "label": "b"}\n')
    for name, said in {"a.json": "the task 'qa': set data.task", "a.jsonl": "the task 'token-classification'"}.items():
        with pytest.raises(UserError, match=said):
            read_examples(tmp_path / name, CLASSIFICATION, DataSettings())
    with pytest.raises(UserError, match="is missing") as error:
        read_examples(tmp_path / "b.jsonl", CLASSIFICATION, DataSettings())
    assert "the task" not in str(error.value)
