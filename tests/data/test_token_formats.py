"""Sentences with labelled words: hand values, and each way a file can be wrong."""

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmg.base.errors import UserError
from nmg.data.formats.tokens import TokenExample, read_conll, read_token_records, write_conll, write_token_records

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
        ("a O\nb\n", ", line 2: has one column, but needs a column of words and a column of tags"),
        ("a\t\n", ", line 1: '' is not an entity tag (O, or B-, I-, E- or S- and a type, e.g. B-Disease)"),
        ("a O\n\nb NN\n", ", line 3: 'NN' is not an entity tag"),
        (
            "The DET\ndog NOUN\n",
            ", line 1: 'DET' is not an entity tag (O, or B-, I-, E- or S- and a type, "
            "e.g. B-Disease). nmg does not support part-of-speech tagging.",
        ),
        (
            "Rome B-LOC NNP\n",
            ", line 1: 'NNP' is not an entity tag (O, or B-, I-, E- or S- and a type, "
            "e.g. B-Disease). Column 2 has one. Set data.tag_column to 2.",
        ),
        ("\tO\n", ", line 1: the word in column 1 is empty"),
        ("a O\n# b\n", ", line 2: 'b' is not an entity tag"),
        ("-DOCSTART- O\n", ": contains no sentences"),
        ("", ": is empty"),
    ],
)
def test_what_is_wrong_with_columns(content: str, problem: str, write: Write):
    assert message(read_conll, write("a.conll", content)).startswith(problem)


def labels(content: str, write: Write) -> list[str]:
    return [label for one in read_conll(write("a.conll", content)) for label in one.labels]


def test_tags_without_a_type_are_one_nameless_type(write: Write):
    """As in the files of BioBERT."""
    assert labels("The O\nBRCA1 B\ngene I\n\nNo O\ntumour B\n", write) == ["O", "B-entity", "I-entity", "O", "B-entity"]
    rows = write("a.jsonl", json.dumps({"text": ["a", "b"], "label": ["B", "O"]}))
    assert read_token_records(rows)[0].labels == ("B-entity", "O")


def test_tags_that_name_their_type_first(write: Write):
    assert labels("Anna PER-B\nMayer PER-I\nlacht O\n", write) == ["B-PER", "I-PER", "O"]
    assert labels("a X-Y-U\nb I-B\n", write) == ["S-X-Y", "I-B"]


def test_iob1_stays(write: Write):
    assert labels("-DOCSTART- -X- O O\n\nRome NNP I-NP I-LOC\n", write) == ["I-LOC"]


GERMEVAL = "#\thttp://example.org/a [2010-01-01]\n1\tRom\tB-LOC\tO\n2\tist\tO\tO\n\n#\tb\n1\tUlm\tB-LOC\tB-ORG\n"


def test_columns_that_are_named(write: Write):
    path = write("a.conll", GERMEVAL)
    first, second = read_conll(path, None, 2, 3)
    assert (first.words, first.labels) == (("Rom", "ist"), ("B-LOC", "O"))
    assert (second.words, second.labels) == (("Ulm",), ("B-LOC",))
    assert [one.labels for one in read_conll(path, None, 2)] == [("O", "O"), ("B-ORG",)]
    assert message(read_conll, path, None, 5) == ", line 2: has 4 columns, but data.word_column is 5"
    assert message(read_conll, path, None, 2, 5) == ", line 2: has 4 columns, but data.tag_column is 5"
    empty = write("b.conll", "1\tUlm\tO\n2\t\tO\n")
    assert message(read_conll, empty, None, 2) == ", line 2: the word in column 2 is empty"


@pytest.mark.parametrize(
    "comment", ["# id 5239d808-f300\tdomain=en", "# id 1", "#", "# text = It is.", "#global.columns = A"]
)
def test_comments_before_a_sentence(comment: str, write: Write):
    """As in CoNLL-U and MultiCoNER; `#` is a word where it has a tag."""
    content = f"{comment}\n{comment}\nRome _ _ B-LOC\n# _ _ O\n\n{comment}\n# _ _ O\n"
    assert [one.words for one in read_conll(write("a.conll", content))] == [("Rome", "#"), ("#",)]


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
        ({"label": ["O"]}, ", line 1, field 'text': is missing or not a list (found: 'label')"),
        ({"text": "a b", "label": ["O"]}, ", line 1, field 'text': is missing or not a list"),
        ({"text": ["a", "b"], "label": ["O"]}, ", line 1, field 'label': has 1 labels for 2 words"),
        ({"text": ["a", " "], "label": ["O", "O"]}, ", line 1, field 'text[1]': is empty"),
        ({"text": ["a"], "label": [3]}, ", line 1, field 'label[0]': must be a string, not 3"),
        ({"text": ["a"], "label": ["X"]}, ", line 1, field 'label': 'X' is not an entity tag"),
        ({"text": [], "label": []}, ": contains no sentences"),
    ],
)
def test_what_is_wrong_with_lists(record: dict[str, Any], problem: str, write: Write):
    assert message(read_token_records, write("a.jsonl", json.dumps(record))).startswith(problem)


def test_round_trips(tmp_path: Path):
    write_conll(EXAMPLES, tmp_path / "a.conll")
    assert [(e.words, e.labels) for e in read_conll(tmp_path / "a.conll")] == [(e.words, e.labels) for e in EXAMPLES]
    write_token_records(EXAMPLES, tmp_path / "a.jsonl", "tokens", "tags")
    assert read_token_records(tmp_path / "a.jsonl", "tokens", "tags") == EXAMPLES


WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
TYPES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8)
TAGS = st.just("O") | st.builds("{}-{}".format, st.sampled_from("BIES"), TYPES)
SENTENCES = st.lists(st.lists(st.tuples(WORDS, TAGS), min_size=1, max_size=5), min_size=1, max_size=5)


@given(SENTENCES)
def test_what_is_written_is_read(sentences: list[list[tuple[str, str]]]):
    written = [
        TokenExample(str(number), *map(tuple, zip(*one, strict=True)), -1) for number, one in enumerate(sentences)
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, read, write in (
            ("a.conll", read_conll, write_conll),
            ("a.jsonl", read_token_records, write_token_records),
        ):
            with suppress(UserError):  # of a word that columns cannot hold
                write(written, Path(folder, name))
                found = [(one.words, one.labels) for one in read(Path(folder, name))]
                expected = [(one.words, tuple(normalize("NFC", label) for label in one.labels)) for one in written]
                assert found == expected


@pytest.mark.parametrize("word", ["a\tb", "a\nb", "-DOCSTART-"])
def test_columns_refuse_words_that_they_cannot_hold(word: str, tmp_path: Path):
    with pytest.raises(
        UserError, match=r"a\.conll: '[^']*' of sentence '7' cannot be written in columns\. Write a \.jsonl file"
    ):
        write_conll([TokenExample("7", (word,), ("O",), -1)], tmp_path / "a.conll")
    assert not (tmp_path / "a.conll").exists()


def test_ncbi_disease(shared: Path):
    examples = read_conll(shared / "ncbi_disease/test.conll")
    assert len(examples) == 940
    assert sum(label == "B-Disease" for example in examples for label in example.labels) == 960
