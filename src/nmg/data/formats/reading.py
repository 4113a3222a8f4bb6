"""What all readers share: bounded reading, decoding, lines, JSON objects, and fields that must be there.

A file may be anything: a reader gives its text or one clear error, in memory that these limits bound.
"""

import codecs
import gzip
import io
import json
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nmg.errors import bad_input
from nmg.files import is_there

NO_CONTEXT = -1
"""`context_id` of an example whose text is no context of the corpus."""

MAX_LINE = 16 * 2**20
"""bytes of a line, and of a table's cell"""
MAX_DOCUMENT = 256 * 2**20
"""bytes of a file that can only be read as a whole: SQuAD's .json, a text of a corpus folder"""
MAX_GROWTH = 100
"""an unpacked .gz may be so many times as long as it is packed; text packs 3 to 20 times"""
ALWAYS_UNPACKED = 16 * 2**20
"""bytes that any .gz may unpack to"""


def part_of(path: Path) -> tuple[Path, str | None]:
    """The file, and the part of it that FILE@PART names."""
    name, at, part = path.name.rpartition("@")
    return (path.with_name(name), part) if at and name not in {"", "."} and not is_there(path) else (path, None)


def read_text(path: Path, *, may_be_blank: bool = False) -> str:
    """The text of a UTF-8 file (a byte order mark is dropped), unpacked if its name ends in .gz.

    A file of white space alone gives "" if it `may_be_blank`. Raises UserError if the file cannot be read, is no
    regular file, is longer than `MAX_DOCUMENT`, unpacks to more than a packed text does, is not UTF-8 (with the line),
    holds a NUL, or nothing but white space and may not be blank.
    """
    with open_file(path) as file:
        content = file.read(MAX_DOCUMENT + 1)
    if len(content) > MAX_DOCUMENT:
        raise bad_input(path, f"is longer than {_size(MAX_DOCUMENT)}; split it")
    text = _decode(content, path, first_line=1)
    if not text.strip():
        if may_be_blank:
            return ""
        raise bad_input(path, "is empty")
    return text


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) of each line that is not blank; one line is in memory at a time.

    Raises as `read_text`, and for a line longer than `MAX_LINE`.
    """
    for number, line in read_raw_lines(path):
        if line.strip():
            yield number, line.removesuffix("\n").removesuffix("\r")


def read_raw_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) of every line, its line break included. Raises as `read_lines`."""
    is_empty = True
    with open_file(path) as file:
        for number, content in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
            if len(content) > MAX_LINE:
                raise bad_input(path, f"is longer than {_size(MAX_LINE)}", line=number)
            line = _decode(content, path, first_line=number)
            is_empty = is_empty and not line.strip()
            yield number, line
    if is_empty:
        raise bad_input(path, "is empty")


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a regular file, unpacked if its name ends in .gz; an error while it is read is a UserError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
            raise bad_input(path, f"cannot be read: it is {kind}, not a file")
        if path.suffix != ".gz":
            with path.open("rb") as file:
                yield file
        else:
            with gzip.open(path) as packed:
                bounded = _Bounded(packed, path, max(ALWAYS_UNPACKED, MAX_GROWTH * status.st_size))
                yield io.BufferedReader(bounded, 2**20)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise bad_input(path, f"is not a whole gzip file: {error}") from error
    except OSError as error:
        raise bad_input(path, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a name that no file can have
        raise bad_input(path, f"cannot be read: {error}") from error


class _Bounded(io.RawIOBase):
    """What unpacks, as long as it does not unpack to more than `limit` bytes."""

    def __init__(self, unpacking: gzip.GzipFile, path: Path, limit: int) -> None:
        self._unpacking, self._path, self._left, self._limit = unpacking, path, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_read: int = self._unpacking.readinto(buffer)
        self._left -= n_read
        if self._left < 0:
            problem = f"unpacks to more than {_size(self._limit)}, which text seldom does; unpack it beforehand"
            raise bad_input(self._path, problem)
        return n_read


def _decode(content: bytes, path: Path, first_line: int) -> str:
    if first_line == 1 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise bad_input(path, "is UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first_line + error.object.count(b"\n", 0, error.start)
        problem = f"is not UTF-8: byte 0x{error.object[error.start]:02x} cannot be decoded"
        raise bad_input(path, problem, line=line) from error
    if "\0" in text:
        line = first_line + text.count("\n", 0, text.index("\0"))
        raise bad_input(path, "holds a NUL, which is no text; if the file is UTF-16, save it as UTF-8", line=line)
    return text


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of a JSONL file; blank lines are skipped. Raises UserError with the line."""
    for number, line in read_lines(path):
        record = parse_json(line, path, first_line=number)
        if not isinstance(record, dict):
            hint = "; a list of records belongs into a file that ends in .json" if isinstance(record, list) else ""
            raise bad_input(path, f'must be a JSON object, e.g. {{"text": "..."}}{hint}', line=number)
        yield number, record


def read_json_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1 of the line or the record, object) of a JSON file, whichever way it holds its objects.

    These are JSON Lines, a list of objects, an object with such a list under `data`, or a single object. Raises
    UserError with the line for what is none of these.
    """
    if holds_json_lines(path):
        yield from read_json_lines(path)
        return
    content = parse_json(read_text(path), path)
    if isinstance(content, dict) and isinstance(content.get("data"), list) and content["data"]:
        content = content["data"]
    for number, record in enumerate(content if isinstance(content, list) else [content], start=1):
        if not isinstance(record, dict):
            raise bad_input(path, f'record {number} must be a JSON object, e.g. {{"text": "..."}}')
        yield number, record


def holds_json_lines(path: Path) -> bool:
    """Whether the first line is a whole JSON object and others follow."""
    with open_file(path) as file:
        read = iter(lambda: file.readline(MAX_LINE + 1), b"")
        lines = (line for line in read if line.removeprefix(codecs.BOM_UTF8).strip())
        first, second = next(lines, b""), next(lines, b"")
    try:
        return bool(second) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


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
    return text_value(record[name], path, line=line, field=field)


def text_value(value: Any, path: Path, *, line: int | None = None, field: str | None = None) -> str:
    """The value if it is a text. Raises UserError if it is none, blank, or holds half a surrogate pair or a NUL."""
    if not isinstance(value, str):
        raise bad_input(path, f"must be a string, not {_short_json(value)}", line=line, field=field)
    if not value.strip():
        raise bad_input(path, "is empty", line=line, field=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f"holds a lone surrogate at character {error.start}, which is no Unicode text"
        raise bad_input(path, problem, line=line, field=field) from error
    if "\0" in value:
        problem = f"holds a NUL at character {value.index(chr(0))}, which is no text"
        raise bad_input(path, problem, line=line, field=field)
    return value


def _short_json(value: Any) -> str:
    """A value for an error message; of what may be long or nested only what it is."""
    match value:
        case list():
            return "a list"
        case dict():
            return "an object"
    return json.dumps(value)[:60]


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


def top_members(content: Any, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, object) of each member of a document: of its list `data`, or of the document if it is a list itself.

    Raises UserError if there is no such list or a member is no object.
    """
    return list_field({"": content}, "", path) if isinstance(content, list) else list_field(content, "data", path)
