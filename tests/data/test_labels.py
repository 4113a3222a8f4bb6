"""Labels as files write them: missing, folded, numbers; and tables that are written and read again."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmg.base.errors import UserError
from nmg.data.formats.classification import ClassificationExample, read_classification, write_classification
from nmg.data.formats.labels import MISSING_CELLS

Write = Callable[[str, str], Path]


def labels(path: Path, known: list[str] | None = None) -> list[str]:
    return [example.label for example in read_classification(path, known_labels=known)]


def lines(*labels: object) -> str:
    return "".join(json.dumps({"text": f"t{number}", "label": label}) + "\n" for number, label in enumerate(labels))


def cells(*labels: str) -> str:
    return "text,label\n" + "".join(f"t{number},{label}\n" for number, label in enumerate(labels))


@pytest.mark.parametrize("cell", ["", " ", *sorted(MISSING_CELLS)])
def test_a_cell_without_a_label(cell: str, write: Write, caplog: pytest.LogCaptureFixture):
    path = write("a.csv", cells("x", cell, "y", cell))
    assert [(one.id, one.label) for one in read_classification(path)] == [("2", "x"), ("4", "y")]
    assert labels(path) == ["x", "y"]
    assert [record.getMessage() for record in caplog.records] == [
        f"warning: {path}: records whose label is empty or NA are left out: 2 of 4"
    ]


def test_a_record_without_a_label(write: Write, caplog: pytest.LogCaptureFixture):
    path = write("a.jsonl", lines("x", None, "NA", "", float("nan")))
    assert labels(path) == ["x", "NA"], "JSON has null, so NA is a label"
    assert "records whose label is empty or null are left out: 3 of 5" in caplog.text


def test_a_file_without_labels(write: Write):
    for path in (write("a.csv", cells("", "nan")), write("a.jsonl", lines(None))):
        with pytest.raises(UserError, match="field 'label': no record has a label"):
            labels(path)


def test_blank_rows_of_a_spreadsheet(write: Write):
    assert labels(write("a.csv", "text,label\na,x\n,\nb,y\n,\n")) == ["x", "y"]


def test_blanks_and_unicode_forms_make_no_difference(write: Write, caplog: pytest.LogCaptureFixture):
    path = write("a.csv", cells("caf\u00e9", "cafe\u0301", " pos", "pos", "very  good", "very good"))
    assert labels(path) == ["caf\u00e9", "caf\u00e9", "pos", "pos", "very good", "very good"]
    assert caplog.text.count("differ only in spaces or Unicode form and are read as one") == 3
    assert labels(write("b.csv", cells("cafe\u0301")), ["caf\u00e9"]) == ["caf\u00e9"]


def test_true_and_false(write: Write):
    assert labels(write("a.jsonl", lines(True, False))) == ["true", "false"]


def test_whole_numbers_that_are_written_as_fractions(write: Write):
    """pandas writes integers so beside a gap."""
    assert labels(write("a.csv", cells("1.0", "", "0.0", "-3.0"))) == ["1", "0", "-3"]
    assert labels(write("a.jsonl", lines(1.0, 0, "2"))) == ["1", "0", "2"]
    assert labels(write("b.csv", cells("1.0")), ["0", "1"]) == ["1"]
    assert labels(write("c.csv", cells("01", "1"))) == ["01", "1"], "no number is a fraction"


@pytest.mark.parametrize(
    ("content", "line", "number"),
    [
        (lines(1.0, 0.5), 2, "0.5"),
        (lines("1.0", "x"), 1, "1.0"),
        (lines(1e-7), 1, "1e-07"),
        (lines(1e300, "x"), 1, f"{1e300:.1f}"),
        (lines(float("inf")), 1, "inf"),
    ],
)
def test_numbers_that_are_no_classes(content: str, line: int, number: str, write: Write):
    with pytest.raises(UserError) as error:
        labels(write("a.jsonl", content))
    assert f"a.jsonl, line {line}, field 'label': contains the number {number}, but labels must be classes" in str(
        error.value
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), st.sampled_from(["a.csv", "a.tsv", "a.jsonl"]))
def test_what_is_written_is_read(rows: list[tuple[str, str]], name: str):
    written = [
        ClassificationExample(str(number), text, f"x{normalize('NFC', ' '.join(label.split()))}".strip(), -1)
        for number, (text, label) in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_classification(written, Path(folder, name))
        assert read_classification(Path(folder, name)) == written


@pytest.mark.parametrize("text", ["a\rb", "a\r", "\rb\n", 'a"\rb', "a\r\nb"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_text_with_a_carriage_return(text: str, name: str, tmp_path: Path):
    written = [ClassificationExample("1", text, "x", -1), ClassificationExample("2", "plain", "y", -1)]
    write_classification(written, tmp_path / name)
    assert read_classification(tmp_path / name) == written


def test_a_table_cannot_hold_a_label_that_it_takes_for_none(tmp_path: Path):
    examples = [ClassificationExample("1", "a", "NA", -1)]
    with pytest.raises(UserError, match=r"a\.csv: the label 'NA' means a missing label in a table\. Write a \.jsonl"):
        write_classification(examples, tmp_path / "a.csv")
    write_classification(examples, tmp_path / "a.jsonl")
    assert read_classification(tmp_path / "a.jsonl") == examples
