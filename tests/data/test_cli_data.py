"""`nmg data` as a user calls it."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nmg.base.errors import UserError
from nmg.cli.data import app

Write = Callable[[str, str], Path]
TABLE = "sentence,class\nfirst [b] one,x\nsecond,y\nfirst [b] one,y\n"
FIELDS = ("--text-field", "sentence", "--label-field", "class")


def nmg_data(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_describe_labels(write: Write) -> None:
    output = nmg_data("describe", write("a.csv", TABLE), *FIELDS)
    for part in ("labelled texts (.csv)", "2 labels", "y: 2 (66.7%)", "2 distinct", "first [b] one", "longest 13"):
        assert part in output


def test_describe_questions(write: Write, squad_json: str) -> None:
    output = nmg_data("describe", write("a.json", squad_json))
    for part in ("questions in JSON (.json)", "1: 2 questions", "2: 1 questions", "? Which city?", "= Rome"):
        assert part in output


def test_describe_text(write: Write) -> None:
    output = nmg_data("describe", write("a.txt", "one two\nthree\none two\n"))
    assert "3 (2 distinct)" in output
    assert "one two" in output


def test_convert_questions(write: Write, squad_json: str, tmp_path: Path) -> None:
    source = write("a.json", squad_json)
    nmg_data("convert", source, tmp_path / "b.jsonl.gz")
    nmg_data("convert", tmp_path / "b.jsonl.gz", tmp_path / "c.json")
    articles = json.loads((tmp_path / "c.json").read_text())["data"]
    assert articles[0]["paragraphs"] == json.loads(squad_json)["data"][0]["paragraphs"]


def test_convert_labels(write: Write, tmp_path: Path) -> None:
    nmg_data("convert", write("a.csv", TABLE), tmp_path / "b.jsonl", *FIELDS)
    first = (tmp_path / "b.jsonl").read_text().splitlines()[0]
    assert json.loads(first) == {"id": "2", "sentence": "first [b] one", "class": "x"}
    nmg_data("convert", tmp_path / "b.jsonl", tmp_path / "c.tsv", *FIELDS)
    with (tmp_path / "c.tsv").open() as file:
        assert [row["class"] for row in csv.DictReader(file, delimiter="\t")] == ["x", "y", "y"]


def test_convert_refuses(write: Write, squad_json: str, tmp_path: Path) -> None:
    questions, texts = write("a.json", squad_json), write("a.csv", TABLE)
    with pytest.raises(UserError, match=r"b\.csv: .*the task 'qa' can write: \.json, \.jsonl$"):
        nmg_data("convert", questions, tmp_path / "b.csv")
    with pytest.raises(UserError, match=r"b\.json: .*'classification' can write: \.jsonl,"):
        nmg_data("convert", texts, tmp_path / "b.json", *FIELDS)
    with pytest.raises(UserError, match=r"a\.csv: already exists"):
        nmg_data("convert", texts, texts, *FIELDS)
    with pytest.raises(UserError, match="cannot tell the task from the file extension"):
        nmg_data("convert", write("a.xml", "x"), tmp_path / "b.json")
    with pytest.raises(UserError, match="a qa file must end in"):
        nmg_data("convert", write("a.tsv", TABLE), tmp_path / "b.json", "--task", "qa")


def test_corpus(write: Write, squad_json: str, tmp_path: Path) -> None:
    source = write("a.json", squad_json.replace("Oslo is", "Oslo\\nis"))
    nmg_data("corpus", source, tmp_path / "b.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert lines == [{"id": 0, "text": "Rome is old."}, {"id": 1, "text": "Oslo\nis cold."}]
    nmg_data("corpus", source, tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "Rome is old.\nOslo is cold.\n"
    with pytest.raises(UserError, match=r"b\.csv: the name of a corpus file must end in \.txt or \.jsonl"):
        nmg_data("corpus", source, tmp_path / "b.csv")
    with pytest.raises(UserError, match=r"a\.json, line 1: is not valid JSON"):
        nmg_data("corpus", write("a.json", "{"), tmp_path / "c.txt")


NEWSQA = "story_id,question,answer_char_ranges,validated_answers,story_text\n./1,Which?,0:4|None|0:4,,Rome is old.\n"
EMRQA = {"evidence": "is old", "evidence_start": 1}
NOTE = {"context": ["Rome is\n", "old."], "qas": [{"question": ["Which?"], "answers": [EMRQA]}]}


@pytest.mark.parametrize(
    ("name", "content", "out", "written"),
    [
        ("combined.csv", NEWSQA, "b.json", '"answers": [{"text": "Rome", "answer_start": 0}]'),
        (
            "data.json",
            json.dumps({"data": [{"paragraphs": [NOTE]}]}),
            "b.json",
            '"text": "is\\nold", "answer_start": 5',
        ),
        ("imdb/pos/1.txt", "good film", "b.jsonl", '{"id": "pos/1", "text": "good film", "label": "pos"}'),
        ("a.conll", "Rome B-X\nis O\n", "b.jsonl", '{"id": "1", "text": ["Rome", "is"], "label": ["B-X", "O"]}'),
        ("a.jsonl", '{"text": ["Rome"], "label": ["B-X"]}', "b.conll", "Rome\tB-X\n"),
        ("a.tsv", 'text\tlabel\n"odd\t1\n', "b.jsonl", '{"id": "2", "text": "\\"odd", "label": "1"}'),
    ],
)
def test_convert_from_each(name: str, content: str, out: str, written: str, write: Write, tmp_path: Path) -> None:
    path = write(name, content)
    source = path.parents[1] if name.startswith("imdb") else path
    assert nmg_data("convert", source, tmp_path / out).endswith(f"{out}: 1 examples\n")
    assert written in (tmp_path / out).read_text()
    assert "1 distinct" in nmg_data("describe", source)


def test_convert_does_not_write_everything_it_reads(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b\.parquet: .*'classification' can write: \.jsonl, "):
        nmg_data("convert", write("a.csv", TABLE), tmp_path / "b.parquet", *FIELDS)


GERMEVAL = "1\tRom\tB-LOC\tO\n2\tist\tO\tO\n" * 20


def test_columns_are_chosen(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("a.conll", GERMEVAL)
    assert "Rom/B-LOC ist" in nmg_data("describe", path, "--word-column", "2", "--tag-column", "3")
    assert not caplog.messages
    nmg_data("describe", path)
    assert caplog.messages == [
        f"warning: {path}: nearly all its words are numbers. Check that data.word_column is the column of the words."
    ]
    with pytest.raises(UserError, match="--word-column 0: columns are counted from 1"):
        nmg_data("describe", path, "--word-column", "0")


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.txt.gz"])
def test_columns_under_another_ending_if_the_task_is_named(name: str, write: Write) -> None:
    content = "Rome\tB-LOC\nis\tO\n"
    path = write(name.removesuffix(".gz"), content)
    if name.endswith(".gz"):
        path = path.with_name(name)
        path.write_bytes(gzip.compress(content.encode()))
    assert "Rome/B-LOC is" in nmg_data("describe", path, "--task", "token-classification")


def test_text_that_holds_json(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("a.txt", '{"text": "one"}\n{"text": "two"}\n')
    nmg_data("describe", path)
    assert caplog.messages[0].startswith(f"warning: {path}: its texts are JSON, so a model would train on braces")
