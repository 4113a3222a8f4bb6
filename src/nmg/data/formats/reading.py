"""Helpers for all readers: bounded reading, decoding, lines, JSON objects and required fields.

A file may contain anything. A reader returns its text or raises one clear error, and its memory use is bounded.
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

from nmg.base.errors import bad_input
from nmg.base.files import is_there

NO_CONTEXT = -1
"""`context_id` of an example whose text is not a context of the corpus."""

MAX_LINE = 16 * 2**20
"""Maximum number of bytes per line or table cell."""
MAX_DOCUMENT = 256 * 2**20
"""Maximum number of bytes of a file that must be read as a whole: SQuAD's .json, a text in a corpus folder."""
MAX_GROWTH = 100
"""Maximum ratio of unpacked to packed size of a .gz file. Text has a ratio of 3 to 20."""
ALWAYS_UNPACKED = 16 * 2**20
"""Number of bytes to which any .gz file may be unpacked, whatever the ratio."""


def part_of(path: Path) -> tuple[Path, str | None]:
    """Split FILE@PART into the file and the part.

    The part is None if the path names no part, or if a file with the full name exists.
    """
    name, at, part = path.name.rpartition("@")
    return (path.with_name(name), part) if at and name not in {"", "."} and not is_there(path) else (path, None)


def read_text(path: Path, *, may_be_blank: bool = False) -> str:
    """Return the text of a UTF-8 file without byte order mark, decompressed if its name ends in .gz.

    A file of only white space gives "" if `may_be_blank`; otherwise it is an error.

    Raises UserError if the path is not a regular file or cannot be read, or if the text exceeds `MAX_DOCUMENT` or the
    limits of decompression. Raises UserError with the line if the text is not UTF-8 or contains a NUL.
    """
    with open_file(path) as file:
        content = file.read(MAX_DOCUMENT + 1)
    if len(content) > MAX_DOCUMENT:
        raise bad_input(path, f"is longer than {_size(MAX_DOCUMENT)}. Split it.")
    text = _decode(content, path, first_line=1)
    if not text.strip():
        if may_be_blank:
            return ""
        raise bad_input(path, "is empty")
    return text


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without line break) for each line that is not blank, one at a time.

    Raises UserError like `read_text`, and for a line longer than `MAX_LINE`.
    """
    for number, line in read_raw_lines(path):
        if line.strip():
            yield number, line.removesuffix("\n").removesuffix("\r")


def read_raw_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line with line break) for every line. Raises UserError like `read_lines`."""
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
    """Open a regular file for reading, decompressed if its name ends in .gz.

    Errors while the file is read are raised as UserError.
    """
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
        raise bad_input(path, f"is not a complete gzip file: {error}") from error
    except OSError as error:
        raise bad_input(path, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # an invalid file name
        raise bad_input(path, f"cannot be read: {error}") from error


class _Bounded(io.RawIOBase):
    """A decompressed stream that raises UserError after more than `limit` bytes."""

    def __init__(self, unpacking: gzip.GzipFile, path: Path, limit: int) -> None:
        self._unpacking, self._path, self._left, self._limit = unpacking, path, limit, limit

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer and return the number of bytes read. Raises UserError if the limit is exceeded."""
        n_read: int = self._unpacking.readinto(buffer)
        self._left -= n_read
        if self._left < 0:
            problem = f"unpacks to more than {_size(self._limit)}, which is unusual for text. Unpack it first."
            raise bad_input(self._path, problem)
        return n_read


def _decode(content: bytes, path: Path, first_line: int) -> str:
    """Decode UTF-8. Raises UserError with the line for invalid bytes and NULs."""
    if first_line == 1 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise bad_input(path, "is UTF-16. Save it as UTF-8.")
    try:
        text = content.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first_line + error.object.count(b"\n", 0, error.start)
        problem = f"is not UTF-8: byte 0x{error.object[error.start]:02x} cannot be decoded. Save the file as UTF-8."
        raise bad_input(path, problem, line=line) from error
    if "\0" in text:
        line = first_line + text.count("\n", 0, text.index("\0"))
        problem = "contains a NUL character, which is not text. If the file is UTF-16, save it as UTF-8."
        raise bad_input(path, problem, line=line)
    return text


def _size(n_bytes: int) -> str:
    """Return a number of bytes in MiB, for messages."""
    return f"{n_bytes / 2**20:,.0f} MiB"


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each line of a JSONL file. Blank lines are skipped.

    Raises UserError with the line number if a line is not a JSON object.
    """
    for number, line in read_lines(path):
        record = parse_json(line, path, first_line=number)
        if not isinstance(record, dict):
            hint = ". Put a list of records into a file that ends in .json." if isinstance(record, list) else ""
            raise bad_input(path, f'must be a JSON object, e.g. {{"text": "..."}}{hint}', line=number)
        yield number, record


def read_json_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line or record number from 1, object) of a JSON file.

    The file contains JSON Lines, a list of objects, an object with such a list under `data`, or a single object. Raises
    UserError for any other content.
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
    """Return whether the first line is a complete JSON object and more lines follow."""
    with open_file(path) as file:
        read = iter(lambda: file.readline(MAX_LINE + 1), b"")
        lines = (line for line in read if line.removeprefix(codecs.BOM_UTF8).strip())
        first, second = next(lines, b""), next(lines, b"")
    try:
        return bool(second) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def parse_json(text: str, path: Path, first_line: int = 1) -> Any:
    """Parse a JSON text.

    Args:
        text: the JSON text.
        path: the file, for messages.
        first_line: line number of the text's first line in the file, from 1.

    Returns:
        The parsed value.

    Raises:
        UserError: with line and column, if the text is not valid JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON: {error.msg} (column {error.colno})"
        raise bad_input(path, problem, line=first_line + error.lineno - 1) from error
    except (ValueError, RecursionError) as error:
        raise bad_input(path, f"cannot be read as JSON: {error}", line=first_line) from error


def string_field(
    record: Mapping[str, Any], name: str, path: Path, *, line: int | None = None, place: str | None = None
) -> str:
    """Return the text in a required field.

    Args:
        record: the object with the field.
        name: key of the field.
        path: the file, for messages.
        line: line number from 1, for messages.
        place: full name of a nested field, for messages.

    Returns:
        The text, which is not blank.

    Raises:
        UserError: if the field is missing, not a string or blank, or if it contains a lone surrogate or a NUL.
    """
    field = place or name
    if name not in record or record[name] is None:
        known = ", ".join(f"'{key}'" for key in record if key is not None)
        raise bad_input(path, f"is missing (found: {known or 'no fields'})", line=line, field=field)
    return text_value(record[name], path, line=line, field=field)


def optional_text(record: Mapping[str, Any], name: str, path: Path, *, line: int) -> str | None:
    """Return the text in a required field, or None if it is null or blank.

    Args:
        record: the object with the field.
        name: key of the field.
        path: the file, for messages.
        line: line number from 1, for messages.

    Returns:
        The text, or None.

    Raises:
        UserError: like `string_field`, except for null and blank text.
    """
    text = record.get(name, "")
    is_blank = name in record and (text is None or (isinstance(text, str) and not text.strip()))
    return None if is_blank else string_field(record, name, path, line=line)


def text_value(value: Any, path: Path, *, line: int | None = None, field: str | None = None) -> str:
    """Check that `value` is a non-blank string and return it.

    Args:
        value: the value.
        path: the file, for messages.
        line: line number from 1, for messages.
        field: name of the field, for messages.

    Returns:
        The value, unchanged.

    Raises:
        UserError: if the value is not a string, is blank, or contains a lone surrogate or a NUL.
    """
    if not isinstance(value, str):
        raise bad_input(path, f"must be a string, not {_short_json(value)}", line=line, field=field)
    if not value.strip():
        raise bad_input(path, "is empty", line=line, field=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f"contains a lone surrogate at character {error.start}, which is not valid Unicode"
        raise bad_input(path, problem, line=line, field=field) from error
    if "\0" in value:
        problem = f"contains a NUL at character {value.index(chr(0))}, which is not text"
        raise bad_input(path, problem, line=line, field=field)
    return value


def _short_json(value: Any) -> str:
    """Return a value for an error message; lists and objects only by their type."""
    match value:
        case list():
            return "a list"
        case dict():
            return "an object"
    return json.dumps(value)[:60]


def name_field(
    record: Mapping[str, Any], name: str, path: Path, *, line: int | None = None, place: str | None = None
) -> str:
    """Return the text of an id or label. Works like `string_field`, but also accepts integers.

    Args:
        record: the object with the field.
        name: key of the field.
        path: the file, for messages.
        line: line number from 1, for messages.
        place: full name of a nested field, for messages.

    Returns:
        The text, or the digits of the integer.

    Raises:
        UserError: if the field is missing, neither a string nor an integer, blank, or not valid Unicode text.
    """
    value = record.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return string_field(record, name, path, line=line, place=place)


def list_field(
    parent: Any, name: str, path: Path, *, line: int | None = None, place: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, object) for each member of the list `parent[name]`.

    Args:
        parent: the object with the list.
        name: key of the list.
        path: the file, for messages.
        line: line number from 1, for messages.
        place: full name of the parent, e.g. `data[0]`.

    Returns:
        Pairs such as (`data[0].qas[2]`, the member).

    Raises:
        UserError: if there is no such list or a member is not an object.
    """
    field = f"{place}.{name}".removeprefix(".")
    members = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(members, list):
        raise bad_input(path, "is missing or not a list", line=line, field=field)
    for number, member in enumerate(members):
        if not isinstance(member, dict):
            raise bad_input(path, "must be an object", line=line, field=f"{field}[{number}]")
        yield f"{field}[{number}]", member


def top_members(content: Any, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, object) for each member of a document that is a list or has a list `data`.

    Raises UserError if there is no such list or a member is not an object.
    """
    return list_field({"": content}, "", path) if isinstance(content, list) else list_field(content, "data", path)
