"""What all readers share: decoding, lines, JSON objects, and fields that must be there."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nmg.errors import bad_input

NO_CONTEXT = -1
"""`context_id` of an example whose text is no context of the corpus."""


def part_of(path: Path) -> tuple[Path, str | None]:
    """The file, and the part of it that FILE@PART names."""
    name, at, part = path.name.rpartition("@")
    return (path.with_name(name), part) if at and name and not path.exists() else (path, None)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file (a byte order mark is dropped), unpacked if its name ends in .gz.

    Raises UserError if the file cannot be read, is not UTF-8 (with the line) or holds nothing but white space.
    """
    with _reading(path):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    text = _decoded(content.removeprefix(codecs.BOM_UTF8), path, 1)
    if not text.strip():
        raise bad_input(path, "is empty")
    return text


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong inside of it is a `UserError` about the file."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise bad_input(path, f"is not a whole gzip file: {error}") from error
    except OSError as error:
        raise bad_input(path, f"cannot be read: {error.strerror}") from error


def _decoded(content: bytes, path: Path, first_line: int) -> str:
    """The text of bytes that begin with `first_line` of the file."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + first_line
        problem = f"is not UTF-8: byte 0x{content[error.start]:02x} cannot be decoded"
        raise bad_input(path, problem, line=line) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) of each line that is not blank, read one by one. Raises as `read_text`."""
    is_empty = True
    with _reading(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for number, content in enumerate(file, start=1):
            text = _decoded(content.removeprefix(codecs.BOM_UTF8) if number == 1 else content, path, number)
            if text.strip():
                is_empty = False
                yield number, text.removesuffix("\n").removesuffix("\r")
    if is_empty:
        raise bad_input(path, "is empty")


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of a JSONL file; blank lines are skipped. Raises UserError with the line."""
    for number, line in read_lines(path):
        record = parse_json(line, path, first_line=number)
        if not isinstance(record, dict):
            raise bad_input(path, 'must be a JSON object, e.g. {"text": "..."}', line=number)
        yield number, record


def parse_json(text: str, path: Path, first_line: int = 1) -> Any:
    """The value of a JSON text that starts at `first_line` of `path`. Raises UserError with line and column."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON: {error.msg} (column {error.colno})"
        raise bad_input(path, problem, line=first_line + error.lineno - 1) from error
    except (ValueError, RecursionError) as error:
        raise bad_input(path, f"is not usable JSON: {error}", line=first_line) from error


def string_field(
    record: Mapping[str, Any], name: str, path: Path, *, line: int | None = None, place: str | None = None
) -> str:
    """The text in a field; `place` is the field's name for the user where it is nested.

    Raises UserError if the field is missing, no string, blank, or holds half a surrogate pair.
    """
    field = place or name
    if name not in record or record[name] is None:
        known = ", ".join(f"'{key}'" for key in record if key is not None)
        raise bad_input(path, f"is missing (there are: {known or 'no fields'})", line=line, field=field)
    value = record[name]
    if not isinstance(value, str):
        raise bad_input(path, f"must be a string, not {json.dumps(value)[:60]}", line=line, field=field)
    if not value.strip():
        raise bad_input(path, "is empty", line=line, field=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f"holds a lone surrogate at character {error.start}, which is no Unicode text"
        raise bad_input(path, problem, line=line, field=field) from error
    return value


def name_field(
    record: Mapping[str, Any], name: str, path: Path, *, line: int | None = None, place: str | None = None
) -> str:
    """As `string_field`, for ids and labels: integers are taken too, as their digits."""
    value = record.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return string_field(record, name, path, line=line, place=place)


def list_field(
    parent: Any, name: str, path: Path, *, line: int | None = None, place: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, object) of each member of the list `parent[name]`; `place` is the parent's own, e.g. `data[0]`.

    Raises UserError if there is no such list or a member is no object.
    """
    field = f"{place}.{name}".removeprefix(".")
    members = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(members, list):
        raise bad_input(path, "is missing or no list", line=line, field=field)
    for number, member in enumerate(members):
        if not isinstance(member, dict):
            raise bad_input(path, "must be an object", line=line, field=f"{field}[{number}]")
        yield f"{field}[{number}]", member
