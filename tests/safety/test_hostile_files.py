"""Files that nobody means well: the right result or one clear error, in bounded memory."""

import gzip
import json
import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from nmg.base.errors import UserError, bad_input, printable, shown
from nmg.base.settings import DataSettings
from nmg.data.formats.classification import read_classification
from nmg.data.formats.mrqa import read_mrqa
from nmg.data.formats.newsqa import read_newsqa_csv
from nmg.data.formats.question_files import read_question_json
from nmg.data.formats.reading import ALWAYS_UNPACKED, MAX_DOCUMENT, MAX_LINE
from nmg.data.formats.squad import read_squad
from nmg.data.formats.tables import read_records
from nmg.data.formats.text import read_texts
from nmg.data.formats.tokens import read_conll, read_token_records
from nmg.policies.maskings import parse_policies
from nmg.policies.registry import load_policy
from nmg.tasks.loaded import load_corpus_texts
from support.command import Nmg

MIB = 2**20
READERS: dict[str, Callable[[Path], Any]] = {
    "a.txt": lambda path: list(read_texts(path)),
    "a.jsonl": read_classification,
    "a.csv": read_classification,
    "a.tsv": read_classification,
    "a.json": read_squad,
    "m.jsonl": read_mrqa,
    "q.json": read_question_json,
    "n.csv": read_newsqa_csv,
    "a.conll": read_conll,
    "t.jsonl": read_token_records,
}
every_reader = pytest.mark.parametrize("name", READERS)


def refusal(path: Path, name: str | None = None) -> str:
    """What the reader of files of that name says, without the file, which it must begin with."""
    with pytest.raises(UserError) as error:
        READERS[(name or path.name).removesuffix(".gz")](path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def peak_of(work: Callable[[], Any]) -> int:
    """Bytes of memory, at most, that Python held for `work`."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def packed_zeros(length: int) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    parts = [packer.compress(bytes(MIB)) for _ in range(length // MIB)]
    return b"".join([*parts, packer.flush()])


# ---- size


@every_reader
def test_a_line_of_a_gigabyte(name: str, tmp_path: Path):
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(2**30)  # takes no room on the disk
    limit = MAX_DOCUMENT if name.endswith(".json") else MAX_LINE
    peak = peak_of(lambda: refusal(path))
    assert f"is longer than {limit // MIB} MiB" in refusal(path)
    assert peak < 3 * limit


@pytest.mark.parametrize(
    "name", [name if name in ("a.txt", "a.json") else pytest.param(name, marks=pytest.mark.slow) for name in READERS]
)
def test_a_file_that_unpacks_to_a_gigabyte(name: str, tmp_path: Path):
    path = tmp_path / f"{name}.gz"
    path.write_bytes(packed_zeros(2**30))
    assert path.stat().st_size < 6 * MIB
    peak = peak_of(lambda: refusal(path))
    assert peak < 3 * (MAX_DOCUMENT if name.endswith(".json") else MAX_LINE)


def test_a_small_file_that_unpacks_to_many_lines(tmp_path: Path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a line\n" * (ALWAYS_UNPACKED // 6)))
    message = refusal(path)
    assert message.startswith(f": unpacks to more than {ALWAYS_UNPACKED // MIB} MiB")


def test_what_text_packs_to_is_read(tmp_path: Path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a line\n" * 10_000))
    assert list(read_texts(path)) == ["a line"] * 10_000


def test_a_cell_that_never_ends(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"' + "a line\n" * (MAX_LINE // 6))
    assert ": is not a valid table: field larger than field limit" in refusal(path)


def test_a_table_of_a_million_columns(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text(",".join(map(str, range(1_000_000))) + "\na\n")
    assert len(refusal(path)) < 1200
    path.write_text("," * 1_000_000)
    assert refusal(path) == ", line 1, field '': two columns have this name"


def test_a_table_that_unpacks_to_much(tmp_path: Path):
    """20 MB of the same letter are a few kilobytes in Parquet."""
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["a" * 20 * MIB], "label": ["x"]})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    with pytest.raises(UserError, match=r"a\.parquet, field 'text': unpacks to more than 100 times its size"):
        list(read_records(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_parquet_file_that_is_none(tmp_path: Path):
    path = tmp_path / "a.parquet"
    os.mkfifo(path)
    with pytest.raises(UserError, match="cannot be read: it is a device or a pipe, not a file"):
        list(read_records(path))


# ---- nesting, numbers


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "m.jsonl", "q.json", "t.jsonl"])
@pytest.mark.parametrize("opening", ["[", '{"a":', '{"text": ', '{"data": [{"paragraphs": '])
def test_nesting_ten_thousand_deep(name: str, opening: str, tmp_path: Path):
    closing = "".join({"[": "]", "{": "}"}.get(character, "") for character in reversed(opening))
    path = tmp_path / name
    path.write_text(opening * 10_000 + "1" + closing * 10_000)
    assert ", line 1: cannot be read as JSON" in refusal(path)


@pytest.mark.parametrize("depth", [500, 900, 940, 960, 980, 990])
def test_nesting_that_can_just_be_read(depth: int, tmp_path: Path):
    """Deep enough to be read, and perhaps not to be written into a message."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": ' + "[" * depth + "]" * depth + ', "label": "x"}')
    assert "must be a string, not a list" in refusal(path) or "cannot be read as JSON" in refusal(path)


def test_a_number_of_many_digits(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": ' + "9" * 10_000 + "}")
    assert ", line 1: cannot be read as JSON" in refusal(path)


# ---- characters


@every_reader
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
def test_utf_16(name: str, encoding: str, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes('{"text": "a", "label": "x"}\n'.encode(encoding))
    assert "UTF-16" in refusal(path)
    assert "save it as utf-8" in refusal(path).lower()


@every_reader
def test_a_nul(name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(b" \n\n a\0b")
    assert refusal(path).startswith(", line 3: contains a NUL")


def test_an_escaped_nul(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\\u0000", "label": "x"}\n')
    assert refusal(path) == ", line 1, field 'text': contains a NUL at character 1, which is not text"


@pytest.mark.parametrize("field", ["text", "label", "id"])
def test_a_lone_surrogate(field: str, tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "a", "label": "x", "id": "1", field: "a\ud800"}))
    assert refusal(path).startswith(f", line 1, field '{field}': contains a lone surrogate at character 1")


@every_reader
def test_a_lone_surrogate_in_bytes(name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(b" \n\xed\xa0\x80")
    assert refusal(path).startswith(", line 2: is not UTF-8: byte 0xed")


MARKS = ("\ufeff", "")
BREAKS = ("\n", "\r\n")


@pytest.mark.parametrize("mark", MARKS, ids=["marked", "plain"])
@pytest.mark.parametrize("line_break", BREAKS, ids=["lf", "crlf"])
def test_byte_order_marks_and_line_breaks_change_nothing(mark: str, line_break: str, tmp_path: Path):
    def written(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.write_bytes((mark + line_break.join(lines) + line_break).encode())
        return path

    assert list(read_texts(written("a.txt", "one", "two"))) == ["one", "two"]
    for path in (
        written("a.csv", "text,label", "one,x"),
        written("a.jsonl", '{"text": "one", "label": "x"}'),
    ):
        (example,) = read_classification(path)
        assert (example.text, example.label) == ("one", "x")


def test_a_table_of_carriage_returns_alone(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\rone,x\rtwo,y\r")
    assert [example.text for example in read_classification(path)] == ["one", "two"]


# ---- what is no file


@every_reader
def test_links(name: str, tmp_path: Path):
    path = tmp_path / name
    path.symlink_to(path)
    assert refusal(path).startswith(": cannot be read: Too many levels of symbolic links")
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert refusal(path) == ": cannot be read: No such file or directory"


def test_a_link_to_a_file_is_the_file(tmp_path: Path):
    (tmp_path / "b.txt").write_text("one\n")
    path = tmp_path / "a.txt"
    path.symlink_to(tmp_path / "b.txt")
    assert list(read_texts(path)) == ["one"]


@every_reader
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes_and_devices(name: str, tmp_path: Path):
    """Reading from a pipe that nobody writes to would never end, and from /dev/zero neither."""
    path = tmp_path / name
    os.mkfifo(path)
    assert refusal(path) == ": cannot be read: it is a device or a pipe, not a file"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert refusal(path) == ": cannot be read: it is a device or a pipe, not a file"


def test_names_that_no_file_can_have(tmp_path: Path):
    assert refusal(tmp_path / "a\0b.jsonl", "a.jsonl") == ": cannot be read: embedded null byte"
    assert "cannot be read: " in refusal(tmp_path / "a\ud800.jsonl", "a.jsonl")
    assert ": cannot be read: File name too long" in refusal(tmp_path / f"{'a' * 300}.txt", "a.txt")


NO_NAMES = ("a\0b.jsonl", "a\ud800.jsonl", "a" * 300 + ".jsonl", "~no-such-user/a.jsonl")


@pytest.mark.parametrize("name", NO_NAMES, ids=["nul", "surrogate", "long", "user"])
@pytest.mark.parametrize("setting", ["data.train", "model.name"])
def test_names_in_a_configuration_that_no_file_can_have(nmg: Nmg, tmp_path: Path, name: str, setting: str):
    data, config = tmp_path / "train.jsonl", tmp_path / "c.yaml"
    data.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    settings = {"data": {"train": str(data)}, "model": {"name": "model"}}
    section, field = setting.split(".")
    settings[section][field] = name
    config.write_text(json.dumps(settings))
    answer = nmg("learn", config, "--out", "out")
    assert answer.code == 2, answer.err
    assert answer.err.strip().startswith("error: ")
    assert len(answer.err.strip().splitlines()) == 1
    answer = nmg("validate", config)
    assert answer.code == (2 if section == "data" else 0), answer.err


@pytest.mark.parametrize("name", NO_NAMES, ids=["nul", "surrogate", "long", "user"])
def test_names_of_a_corpus_and_a_policy_that_no_folder_can_have(name: str):
    with pytest.raises(UserError):
        load_corpus_texts(DataSettings(corpus=name))
    with pytest.raises(UserError):
        load_policy(parse_policies([name], "--policy").popitem()[1])


# ---- messages


def test_a_message_stays_short_whatever_the_file_holds(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "a", "label": "x" * 10**6}) + "\n")
    with pytest.raises(UserError) as error:
        read_classification(path, known_labels={"y"})
    assert len(str(error.value)) < 1200
    assert len(shown("x" * 10**6)) < 200
    assert len(shown([["x" * 1000] * 1000] * 1000)) < 10_000
    assert len(str(bad_input("a", "b", field="c" * 10**6))) < 1200


def test_a_message_does_not_steer_the_terminal(nmg: Nmg, tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "a", "label": "\\u001b[2J\\u202e"}\n')
    path.write_text(path.read_text() + '{"text": "a", "label": "x", "id": "\\u001b]0;mine\\u0007"}\n' * 2)
    answer = nmg("data", "describe", path)
    assert answer.code == 2
    assert "'\\x1b]0;mine\\x07' is also the id of line 3" in answer.err
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    answer = nmg("data", "describe", path)
    assert answer.code == 0, answer.err
    assert "\\x1b[2J\\u202e: 1 (50.0%)" in answer.out
    assert not set("\x1b\x07\u202e") & set(answer.out + answer.err)


def test_what_is_printable_stays_as_it_is():
    assert printable("é 漢字 😀\n\tעברית") == "é 漢字 😀\n\tעברית"
    assert printable("a\u2066b\ud800\x9b") == "a\\u2066b\\ud800\\x9b"
