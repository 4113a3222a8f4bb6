"""Sentences with labelled words: hand values, and each way a file can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmg.data.formats.tokens import TokenExample, read_conll, read_token_records, write_conll, write_token_records
from nmg.errors import UserError

Write = Callable[[str, str], Path]
CONLL = "-DOCSTART- -X- O O\n\nBRCA1 NN O B-Gene\nis VB O O\n\n\nA DT O O\nbreast NN O B-Disease\ncancer NN O I-Disease"
EXAMPLES = [
    TokenExample("3", ("BRCA1", "is"), ("B-Gene", "O"), -1),
    TokenExample("7", ("A", "breast", "cancer"), ("O", "B-Disease", "I-Disease"), -1),
]


def message(read: Callable[..., Any], path: Path, *args: Any) -> str:
    with pytest.raises(UserError) as error:
        read(path, *args)
    return str(error.value).removeprefix(str(path))


def test_columns(write: Write):
    assert read_conll(write("a.conll", CONLL)) == EXAMPLES
    assert read_conll(write("b.conll", CONLL.replace(" ", "\t").replace("\n", "\r\n") + "\r\n\r\n")) == EXAMPLES
    assert EXAMPLES[1].passage == "A breast cancer"


def test_with_tabs_a_word_may_hold_white_space(write: Write):
    (example,) = read_conll(write("a.conll", "New\u00a0York\tB-Place\n5 000\tO\n"))
    assert example.words == ("New\u00a0York", "5 000")


def test_bilou_reads_as_iobes(write: Write):
    (example,) = read_conll(write("a.conll", "a B-X\nb L-X\nc U-Y\n"))
    assert example.labels == ("B-X", "E-X", "S-Y")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a O\nb\n", ", line 2: needs a word in the first column and its label in the last"),
        ("a\t\n", ", line 1: '' is no label of a word: O, or B-, I-, E- or S- and a type, e.g. B-Disease"),
        ("a O\n\nb NN\n", ", line 3: 'NN' is no label of a word"),
        ("\tO\n", ", line 1: needs a word in the first column"),
        ("-DOCSTART- O\n", ": holds no sentences"),
        ("", ": is empty"),
    ],
)
def test_what_is_wrong_with_columns(content: str, problem: str, write: Write):
    assert message(read_conll, write("a.conll", content)).startswith(problem)


def test_a_type_that_training_lacks(write: Write):
    path = write("a.conll", CONLL)
    assert message(read_conll, path, ["O", "B-Gene", "I-Gene"]) == (
        ", line 8: no training example has entities of the type in 'B-Disease'"
    )
    rows = write("a.jsonl", json.dumps({"text": ["a"], "label": ["B-X"]}))
    assert message(read_token_records, rows, "text", "label", ["O"]).startswith(", line 1, field 'label': no training")


def test_lists(write: Write):
    lines = [{"tokens": e.words, "tags": e.labels, "id": int(e.id)} for e in EXAMPLES]
    lines.insert(1, {"tokens": [], "tags": [], "id": 5})
    path = write("a.jsonl", "\n".join(json.dumps(line) for line in lines))
    assert read_token_records(path, "tokens", "tags") == EXAMPLES


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"label": ["O"]}, ", line 1, field 'text': is missing or no list (there are: 'label')"),
        ({"text": "a b", "label": ["O"]}, ", line 1, field 'text': is missing or no list"),
        ({"text": ["a", "b"], "label": ["O"]}, ", line 1, field 'label': has 1 labels for 2 words"),
        ({"text": ["a", " "], "label": ["O", "O"]}, ", line 1, field 'text[1]': is empty"),
        ({"text": ["a"], "label": [3]}, ", line 1, field 'label[0]': must be a string, not 3"),
        ({"text": ["a"], "label": ["X"]}, ", line 1, field 'label': 'X' is no label of a word"),
        ({"text": [], "label": []}, ": holds no sentences"),
    ],
)
def test_what_is_wrong_with_lists(record: dict[str, Any], problem: str, write: Write):
    assert message(read_token_records, write("a.jsonl", json.dumps(record))).startswith(problem)


def test_round_trips(tmp_path: Path):
    write_conll(EXAMPLES, tmp_path / "a.conll")
    assert [(e.words, e.labels) for e in read_conll(tmp_path / "a.conll")] == [(e.words, e.labels) for e in EXAMPLES]
    write_token_records(EXAMPLES, tmp_path / "a.jsonl", "tokens", "tags")
    assert read_token_records(tmp_path / "a.jsonl", "tokens", "tags") == EXAMPLES


def test_ncbi_disease(shared: Path):
    examples = read_conll(shared / "ncbi_disease/test.conll")
    assert len(examples) == 940
    assert sum(label == "B-Disease" for example in examples for label in example.labels) == 960
