"""Records of CSV, TSV, Parquet and the hub, and folders of texts."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from pyarrow import parquet

from nmg.base.errors import UserError
from nmg.data.formats.classification import ClassificationExample, read_classification, read_label_folders
from nmg.data.formats.hub import open_hub
from nmg.data.formats.tables import ending_of, read_records, source_digest
from nmg.data.formats.text import read_texts
from nmg.data.formats.tokens import read_token_records

Write = Callable[[str, str], Path]


def message(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


def pairs(examples: list[ClassificationExample]) -> list[tuple[str, str]]:
    return [(example.text, example.label) for example in examples]


# ---- GLUE


def test_quotes_are_characters_in_glues_tables(write: Write):
    """A cell that begins with a quote, one that is quoted in part, and one with a single quote at its end."""
    path = write("sst2.tsv", 'sentence\tlabel\n"a" film\t1\nit\'s "bad\t0\n"so-so\t0\nsays "go"\t1\n')
    found = pairs(read_classification(path, "sentence", "label"))
    assert found == [('"a" film', "1"), ("it's \"bad", "0"), ('"so-so', "0"), ('says "go"', "1")]


def test_quoted_cells_stay_quoted(write: Write):
    path = write("a.tsv", 'text\tlabel\n"a ""b""\tc"\tx\n"two\nlines"\ty\n')
    assert pairs(read_classification(path)) == [('a "b"\tc', "x"), ("two\nlines", "y")]


def test_a_table_that_is_neither(write: Write):
    path = write("a.tsv", 'text\tlabel\n"a" b\tx\nc\tx\ty\n')
    assert "is not a valid table" in message(lambda: read_classification(path))


def test_a_table_without_header(write: Write):
    """CoLA: source, label, mark of the author, sentence."""
    path = write("cola.tsv", "gj04\t1\t\tThey drank the pub.\ngj04\t0\t*\tThe pub drank them.\n")
    assert pairs(read_classification(path, "4", "2")) == [("They drank the pub.", "1"), ("The pub drank them.", "0")]
    short = write("b.csv", "a,x\nb,x,y\n")
    assert ", line 2: has 3 cells, but the first row has 2" in message(lambda: read_classification(short, "1", "2"))


@pytest.mark.parametrize(("mark", "name"), [(";", "';'"), ("\t", "tabs"), ("|", "'|'")])
def test_another_separator_is_found_and_said(mark: str, name: str, write: Write, caplog: pytest.LogCaptureFixture):
    rows = [("text", "label"), ("hello, world", "pos"), ("bye", "neg"), ("a, b, c", "pos")]
    path = write("a.csv", "".join(f"{text}{mark}{label}\n" for text, label in rows))
    assert pairs(read_classification(path)) == rows[1:]
    assert caplog.messages == [f"warning: {path}: its columns are read as separated by {name}, not by ','"]
    headless = write("b.csv", "".join(f"{text}{mark}{label}\n" for text, label in rows[2:3] * 3))
    assert pairs(read_classification(headless, "1", "2")) == rows[2:3] * 3


def test_the_usual_separator_stays(write: Write, caplog: pytest.LogCaptureFixture):
    path = write("a.csv", "text;x,label\na;b,pos\nc;d,neg\n")
    assert pairs(read_classification(path, "text;x")) == [("a;b", "pos"), ("c;d", "neg")]
    assert "is missing (found: 'words')" in message(lambda: read_classification(write("b.csv", "words\na; b\nc\n")))
    assert not caplog.messages


def test_blanks_around_the_names_of_columns(write: Write):
    assert pairs(read_classification(write("a.csv", "text, label\none, x\n"))) == [("one", "x")]
    same = write("b.csv", "text, text\none, x\n")
    assert "field 'text': two columns have this name" in message(lambda: read_classification(same))


# ---- JSON


def test_a_list_in_json_lines_belongs_into_json(write: Write):
    hint = 'line 1: must be a JSON object, e.g. {"text": "..."}. Put a list of records into a file that ends in .json.'
    assert hint in message(lambda: read_classification(write("a.jsonl", LIST.replace("\n", ""))))


RECORDS = '{"text": "one", "label": "x"}\n{"text": "two", "label": "y"}\n'
LIST = '[{"text": "one", "label": "x"},\n {"text": "two", "label": "y"}]'


@pytest.mark.parametrize(
    "content", [RECORDS, f"\ufeff\n{RECORDS}", LIST, LIST.replace("\n", ""), f'{{"version": 1, "data": {LIST}}}']
)
def test_records_in_json(content: str, write: Write):
    path = write("a.json", content)
    assert pairs(read_classification(path)) == [("one", "x"), ("two", "y")]
    assert list(read_texts(path)) == ["one", "two"]


def test_one_record_in_json(write: Write):
    for content in ('{"text": "one", "label": "x"}', '{\n "text": "one",\n "label": "x"\n}\n'):
        assert pairs(read_classification(write("a.json", content))) == [("one", "x")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"text": "one", "label": "x"}\n{"text"', ", line 2: is not valid JSON"),
        ('{"text": "one", "label": "x"}\n3\n', ", line 2: must be a JSON object"),
        ('[{"text": "one", "label": "x"}, 3]', ": record 2 must be a JSON object"),
        ("[]", ": contains no examples"),
        ("[", ", line 1: is not valid JSON"),
        ("", ": is empty"),
    ],
)
def test_what_is_wrong_with_json(content: str, problem: str, write: Write):
    assert problem in message(lambda: read_classification(write("a.json", content)))


# ---- labels of other tasks


@pytest.mark.parametrize("label", ['["a", "b"]', "[]"])
def test_several_labels_are_refused(label: str, write: Write):
    path = write("a.jsonl", f'{{"text": "one", "label": {label}}}')
    assert message(lambda: read_classification(path)) == (
        f"{path}, line 1, field 'label': contains a list, but each text must have one label. "
        "For lists, set data.task to multi-label."
    )


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", '{"text": "one", "label": 2.5}'), ("a.csv", "text,label\none,2.5\n")]
)
def test_numbers_are_refused(name: str, content: str, write: Write):
    path = write(name, content)
    assert message(lambda: read_classification(path)).endswith(
        "field 'label': contains the number 2.5, but labels must be classes. For numbers, set data.task to regression."
    )


@pytest.mark.parametrize("label", ["3", "v2.5", "2.5.1", ".", "1."])
def test_what_is_no_number(label: str, write: Write):
    path = write("a.csv", f"text,label\none,{label}\n")
    assert pairs(read_classification(path)) == [("one", label)]


# ---- Parquet

FEATURES = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})


def test_parquet(tmp_path: Path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["one", "two"], "label": [1, 0], "id": [7, 8]}), path)
    assert read_classification(path) == [
        ClassificationExample("7", "one", "1", -1),
        ClassificationExample("8", "two", "0", -1),
    ]


def test_labels_in_parquet_have_their_names(tmp_path: Path):
    path = tmp_path / "a.parquet"
    Dataset.from_dict({"text": ["one", "two"], "label": [1, 0]}, features=FEATURES).to_parquet(path)
    assert pairs(read_classification(path)) == [("one", "good"), ("two", "bad")]
    Dataset.from_dict({"text": ["one"], "label": [-1]}, features=FEATURES).to_parquet(path)
    assert "field 'label': no record has a label" in message(lambda: read_classification(path))


def test_labels_of_words_have_their_names(tmp_path: Path):
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-X"]))})
    Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[0, 1]]}, features=features).to_parquet(
        tmp_path / "a.parquet"
    )
    (example,) = read_token_records(tmp_path / "a.parquet", "tokens", "ner_tags")
    assert example.labels == ("O", "B-X")


def test_parquet_that_is_none(write: Write, tmp_path: Path):
    assert "is not a complete Parquet file" in message(lambda: list(read_records(write("a.parquet", "text"))))
    assert "cannot be read: " in message(lambda: list(read_records(tmp_path / "no.parquet")))


# ---- the hub


def test_a_name_of_the_hub(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def load(*words: object, split: str, **_: object) -> Dataset:
        asked.append((*words, split))
        return Dataset.from_dict({"text": ["one"], "label": [1]}, features=FEATURES)

    monkeypatch.setattr("datasets.load_dataset", load)
    assert pairs(read_classification(Path("hub:stanfordnlp/imdb"))) == [("one", "good")]
    assert pairs(read_classification(Path("hub:nyu-mll/glue:sst2@validation"))) == [("one", "good")]
    assert asked == [("stanfordnlp/imdb", None, "train"), ("nyu-mll/glue", "sst2", "validation")]
    assert ending_of(Path("hub:a/b.v1@train")) == "hub:"
    row = b'{"text": "one", "label": 1}\n'
    assert source_digest(Path("hub:a/b")) == hashlib.sha256(row).hexdigest()[:16], "of the rows"


def test_a_digest_tells_parts_of_a_file_apart(write: Write):
    path = write("a.json", "{}")
    parts = {source_digest(path), source_digest(Path(f"{path}@train")), source_digest(Path(f"{path}@test"))}
    assert len(parts) == 3
    assert message(lambda: source_digest(path.with_name("b.json"))) == (
        f"{path.with_name('b.json')}: cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (
            ConnectionError("Couldn't reach it\nmore"),
            "cannot be reached, and is not in the cache of `datasets` (Couldn't reach it)",
        ),
        (ValueError('Unknown split "no".'), 'cannot be loaded from the hub: Unknown split "no".'),
    ],
)
def test_what_the_hub_lacks(error: Exception, problem: str, monkeypatch: pytest.MonkeyPatch):
    def load(*_: object, **__: object) -> Dataset:
        raise error

    monkeypatch.setattr("datasets.load_dataset", load)
    assert message(lambda: open_hub(Path("hub:a/b@no"))).startswith(f"hub:a/b@no: {problem}")


OFFLINE = """
from pathlib import Path
from nmg.data.formats.classification import read_classification
from nmg.base.errors import UserError
print([(e.text, e.label) for e in read_classification(Path("hub:someone/films"))])
try:
    read_classification(Path("hub:someone/others"))
except UserError as error:
    print(error)
"""


def test_without_network_the_cache_serves_and_else_one_sentence_says_so(tmp_path: Path):
    """The layout of `datasets`' cache: owner___name/configuration/version/hash."""
    folder = tmp_path / "someone___films" / "default" / "0.0.0" / "abc"
    Dataset.from_dict({"text": ["one", "two"], "label": [1, 0]}, features=FEATURES).to_parquet(tmp_path / "a.parquet")
    script = f"""
from datasets import load_dataset
load_dataset("parquet", data_files={{"train": {str(tmp_path / "a.parquet")!r}}}, cache_dir={str(tmp_path / "made")!r})
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
    (made,) = (tmp_path / "made" / "parquet").glob("*/*/*/dataset_info.json")
    folder.mkdir(parents=True)
    for file in made.parent.iterdir():
        name = file.name.replace("parquet-", "films-")
        (folder / name).write_bytes(file.read_bytes().replace(b'"parquet"', b'"films"'))
    answer = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()[-2:]
    assert first == "[('one', 'good'), ('two', 'bad')]"
    assert second.startswith("hub:someone/others: cannot be reached, and is not in the cache of `datasets`")


# ---- folders


def test_folders_of_labels(write: Write):
    root = write("imdb/pos/10_9.txt", "good<br />film").parents[1]
    write("imdb/neg/0_2.txt", "bad film")
    write("imdb/unsup/3_0.txt", "some film")
    write("imdb/urls_pos.txt", "no text")
    assert read_label_folders(root) == [
        ClassificationExample("neg/0_2", "bad film", "neg", -1),
        ClassificationExample("pos/10_9", "good<br />film", "pos", -1),
    ]
    assert ending_of(root) == "/"
    assert message(lambda: read_label_folders(root, ["pos"])) == (
        f"{root / 'neg/0_2.txt'}: no training example has the label 'neg'"
    )
    before = source_digest(root)
    write("imdb/neg/0_2.txt", "bad film!")
    assert source_digest(root) != before


def test_a_folder_without_labels(write: Write):
    root = write("texts/a.txt", "one").parent
    assert message(lambda: read_label_folders(root)).endswith(
        "contains no folders of .txt files. Put the texts of each label into a folder named after the label."
    )
