"""Files of lists of labels and of numbers: what is read, what is refused, and what is written and read again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import ClassLabel as Classes
from datasets import Dataset, Features, Sequence, Value

from nmg.base.errors import UserError
from nmg.base.settings import DataSettings
from nmg.data.formats.labelled_texts import TextFields
from nmg.data.formats.multi_label import MultiLabelExample, read_multi_label, write_multi_label
from nmg.data.formats.regression import RegressionExample, read_regression, write_regression
from nmg.tasks.load import few_shot, guess_task, read_examples
from nmg.tasks.registry import task_kind

Write = Callable[[str, str], Path]
FIELDS = TextFields()


def message(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


def lists(path: Path) -> list[tuple[str, ...]]:
    return [one.labels for one in read_multi_label(path, FIELDS)]


def numbers(path: Path) -> list[float]:
    return [one.number for one in read_regression(path, FIELDS)]


def test_lists_of_labels(write: Write):
    path = write(
        "a.jsonl",
        '{"text": "t", "label": ["b", "a", " b "]}\n{"text": "t", "label": []}\n{"text": "t", "label": ["c"], "id": 7}',
    )
    every = ("a", "b", "c")
    assert read_multi_label(path, FIELDS) == [
        MultiLabelExample("1", "t", ("a", "b"), -1, label_set=every),
        MultiLabelExample("2", "t", (), -1, label_set=every),
        MultiLabelExample("7", "t", ("c",), -1, label_set=every),
    ]


def test_labels_in_cells(write: Write, caplog: pytest.LogCaptureFixture):
    path = write("a.csv", "text,label\nt,b|a\nt,\nt,c\nt,NA\n")
    assert lists(path) == [("a", "b"), (), ("c",)]
    assert f"{path}: records whose label is NA are left out: 1 of 4" in caplog.text


def test_a_record_without_a_list_is_left_out(write: Write, caplog: pytest.LogCaptureFixture):
    assert lists(write("a.jsonl", '{"text": "t", "label": null}\n{"text": "t", "label": [1, 2]}')) == [("1", "2")]
    assert "records whose label is empty or null are left out: 1 of 2" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", '{"text": "t", "label": "a"}', "line 1, field 'label': must be a list of labels, such as [\"a\""),
        ("a.jsonl", '{"text": "t", "label": [["a"]]}', "line 1, field 'label': contains a list inside the list"),
        ("a.jsonl", '{"text": "t", "label": []}\n{"text": "t", "label": [" "]}', "line 2, field 'label': is empty"),
        ("a.jsonl", '{"text": "t"}', "line 1, field 'label': is missing"),
        ("a.csv", "text,label\nt,a||b\n", "line 2, field 'label': is empty"),
    ],
)
def test_what_is_no_list_of_labels(name: str, content: str, problem: str, write: Write):
    assert problem in message(lambda: lists(write(name, content)))


def test_a_label_that_no_training_example_has(write: Write):
    path = write("a.jsonl", '{"text": "t", "label": []}\n{"text": "t", "label": ["a", "z"]}')
    assert message(lambda: read_multi_label(path, FIELDS, ("a", "b"))) == (
        f"{path}, line 2, field 'label': no training example has the label 'z'"
    )
    path = write("b.jsonl", '{"text": "t", "label": ["b"]}')
    assert read_multi_label(path, FIELDS, ("a", "b"))[0].label_set == ("a", "b")


def test_names_of_labels_in_parquet(tmp_path: Path):
    rows = {"text": ["t", "u"], "label": [[1, 0], []]}
    features = Features({"text": Value("string"), "label": Sequence(Classes(names=["bad", "good"]))})
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    assert lists(tmp_path / "a.parquet") == [("bad", "good"), ()]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_what_is_written_is_read(name: str, tmp_path: Path):
    fields = TextFields("x", "y", "z")
    texts = [
        MultiLabelExample("1", "a,\tb", ("p q", "r"), -1, "c\rd", ("p q", "r")),
        MultiLabelExample("2", "e", (), -1, "f", ("p q", "r")),
    ]
    write_multi_label(texts, tmp_path / name, fields)
    assert read_multi_label(tmp_path / name, fields) == texts
    (tmp_path / name).unlink()
    scored = [RegressionExample("1", "a", 0.1 + 0.2, -1, "b"), RegressionExample("2", "c", -3.0, -1, "d")]
    write_regression(scored, tmp_path / name, fields)
    assert read_regression(tmp_path / name, fields) == scored


def test_a_label_that_holds_the_separator(tmp_path: Path):
    examples = [MultiLabelExample("1", "t", ("a|b",), -1, label_set=("a|b",))]
    assert message(lambda: write_multi_label(examples, tmp_path / "a.csv", FIELDS)).endswith(
        "a.csv: the label 'a|b' contains '|', which separates labels in a table. Write a .jsonl file."
    )
    write_multi_label(examples, tmp_path / "a.jsonl", FIELDS)
    assert read_multi_label(tmp_path / "a.jsonl", FIELDS) == examples


def test_numbers(write: Write, caplog: pytest.LogCaptureFixture):
    path = write("a.jsonl", "".join(f'{{"text": "t", "label": {label}}}\n' for label in ("2.5", "-3", '" 1e3 "')))
    assert numbers(path) == [2.5, -3.0, 1000.0]
    assert numbers(write("a.csv", "text,label\nt,0.25\nt,\nt,nan\nt,5\n")) == [0.25, 5.0]
    assert "records whose label is empty or NA are left out: 2 of 4" in caplog.text


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ('"good"', "must be a number, not 'good'"),
        ('"2,5"', "must be a number, not '2,5'"),
        ('"1_000"', "must be a number"),
        ("true", "must be a number"),
        ("[1.0]", "must be a number"),
        ("Infinity", "must be a finite number, not inf"),
        ('"-inf"', "must be a finite number, not -inf"),
        ("1e999", "must be a finite number, not inf"),
        ("1" * 400, "must be a number, not '1111"),
    ],
)
def test_what_is_no_number(label: str, problem: str, write: Write):
    path = write("a.jsonl", f'{{"text": "t", "label": 1}}\n{{"text": "t", "label": {label}}}')
    assert f"{path}, line 2, field 'label': {problem}" in message(lambda: numbers(path))


def test_glue_style_pairs(write: Write):
    """The columns of STS-B, in which quotes are ordinary characters."""
    path = write("train.tsv", 'sentence1\tsentence2\tscore\na "plane\tan air plane\t5.000\na man\ta dog\t0.5\n')
    settings = DataSettings(task="regression", text_field="sentence1", pair_field="sentence2", label_field="score")
    assert read_examples(path, task_kind("regression"), settings) == [
        RegressionExample("2", 'a "plane', 5.0, -1, "an air plane"),
        RegressionExample("3", "a man", 0.5, -1, "a dog"),
    ]


def test_the_task_of_a_file_is_guessed_from_a_list(write: Write):
    for content in ('{"text": "t", "label": ["a"]}', '{"text": "t", "label": []}'):
        assert guess_task(write("a.jsonl", content)).name == "multi-label"
    assert guess_task(write("b.jsonl", '{"text": "t", "label": 2}')).name == "classification"
    assert guess_task(write("c.jsonl", '{"text": ["t"], "label": ["O"]}')).name == "token-classification"
    assert guess_task(write("d.csv", "text,label\nt,a|b\n")).name == "classification"


def test_training_files_without_labels_or_with_one_number(write: Write):
    settings = DataSettings(train="a.jsonl")
    empty = read_multi_label(write("a.jsonl", '{"text": "t", "label": []}'), FIELDS)
    assert message(lambda: task_kind("multi-label").check_train(empty, settings)) == (
        "a.jsonl, field 'label': no example has a label"
    )
    settings = settings.model_copy(update={"task": "regression"})
    equal = [RegressionExample(str(i), "t", 2.0, -1) for i in range(3)]
    assert message(lambda: task_kind("regression").check_train(equal, settings)) == (
        "a.jsonl, field 'label': the task regression needs at least two different numbers, but all examples have 2"
    )


def test_few_shot_samples(write: Write):
    kind, settings = task_kind("multi-label"), DataSettings(labelled_examples=2)
    path = write("a.jsonl", "".join(f'{{"text": "t{i}", "label": ["l{i}"]}}\n' for i in range(9)))
    chosen = few_shot(read_multi_label(path, FIELDS), settings, kind, seed=0)
    assert len(chosen) == 2
    with pytest.raises(UserError, match="does not apply to the task 'multi-label'"):
        few_shot(chosen, DataSettings(labelled_per_class=2), kind, seed=0)
