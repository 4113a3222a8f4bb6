"""Reads records from JSON, JSONL, CSV, TSV and Parquet files and from data sets of the hub."""

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmg.base.errors import UserError, bad_input
from nmg.base.files import content_digest, is_folder
from nmg.data.formats.hub import HUB, STREAM, open_hub
from nmg.data.formats.reading import (
    ALWAYS_UNPACKED,
    MAX_GROWTH,
    MAX_LINE,
    open_file,
    part_of,
    read_json_lines,
    read_json_records,
    read_raw_lines,
)
from nmg.data.formats.streaming import streamed_file
from nmg.data.notices import warn_once

if TYPE_CHECKING:
    from datasets import Features
    from pyarrow import Schema
    from pyarrow.parquet import FileMetaData

DELIMITERS = {".csv": ",", ".tsv": "\t"}
OTHER_DELIMITERS = ",;\t|"
"""Delimiters to try if the header would otherwise have a single cell."""
SNIFFED_LINES, SNIFFED_CHARACTERS = 20, 8192
"""Maximum numbers of lines and characters from which the delimiter is guessed."""


def ending_of(path: Path) -> str:
    """Return the file extension without .gz, e.g. '.jsonl'.

    It is '/' for a folder, and 'hub:' or 'stream:' for a data set of the hub.
    """
    for prefix in (HUB, STREAM):
        if str(path).startswith(prefix):
            return prefix
    file, _ = part_of(path)
    return "/" if is_folder(file) else Path(file.name.removesuffix(".gz")).suffix


def read_records(path: Path, fields: Sequence[str] = ()) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (number, field → value) for each record. Numbers are lines from 1, or rows in Parquet and on the hub.

    Numeric class labels in Parquet and on the hub are converted to their names, or to None if there is no name. If all
    `fields` are numbers, a CSV or TSV file has no header, and they are column numbers from 1. Raises UserError if the
    file cannot be read or is not a valid table.
    """
    ending = ending_of(path)
    if ending == HUB:
        rows = open_hub(path)
        yield from _decoded(rows, rows.features)
    elif ending == STREAM:
        yield from read_json_lines(streamed_file(path))
    elif ending == ".parquet":
        yield from _parquet_rows(path)
    elif ending in DELIMITERS:
        has_header = not fields or not all(field.isdecimal() for field in fields)
        yield from _table_rows(path, _delimiter(path, DELIMITERS[ending]), has_header)
    elif ending == ".json":
        yield from read_json_records(path)
    else:
        yield from read_json_lines(path)


def source_digest(path: Path) -> str:
    """Return a digest (16 hex digits) of the content of a file, a folder or a data set of the hub.

    If the path names a part, `@PART` follows the digits.

    Raises UserError if the content cannot be read.
    """
    if ending_of(path) == HUB:
        digest = hashlib.sha256()
        for row in open_hub(path):
            digest.update(json.dumps(row, default=str).encode() + b"\n")
        return digest.hexdigest()[:16]
    file, part = (streamed_file(path), None) if ending_of(path) == STREAM else part_of(path)
    try:
        return content_digest(file) + ("" if part is None else f"@{part}")
    except OSError as error:
        raise bad_input(file, f"cannot be read: {error.strerror or error}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (row number from 1, field → value) of a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    with open_file(path) as content:
        try:
            with parquet.ParquetFile(content, buffer_size=2**20) as file:
                _check_growth(file.metadata, path)
                rows = (row for batch in file.iter_batches(batch_size=64) for row in batch.to_pylist())
                yield from _decoded(rows, _features(file.schema_arrow, path))
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise bad_input(path, f"is not a complete Parquet file: {error}") from error


def _check_growth(metadata: "FileMetaData", path: Path) -> None:
    """Raise UserError, which names the column, if a column of a row group exceeds the limits of decompression."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            limit = max(ALWAYS_UNPACKED, MAX_GROWTH * column.total_compressed_size)
            if column.total_uncompressed_size > limit:
                problem = f"unpacks to more than {MAX_GROWTH} times its size, which is unusual for text"
                raise bad_input(path, problem, field=column.path_in_schema)


def _features(schema: "Schema", path: Path) -> "Features | None":
    """Return the column types that `datasets` stored, including label names; None if another program wrote the file."""
    if b"huggingface" not in (schema.metadata or {}):
        return None
    from datasets import Features

    try:
        return Features.from_arrow_schema(schema)
    except Exception as error:  # the metadata may contain anything
        raise bad_input(path, f"has invalid column types in the metadata of `datasets`: {error}") from error


def _decoded(rows: Iterator[Any], features: "Features | None") -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (row number from 1, row) with class labels replaced by their names."""
    decoders = {name: _decoder(feature) for name, feature in (features or {}).items()}
    for number, row in enumerate(rows, start=1):
        yield number, {name: decoders.get(name, _as_is)(value) for name, value in row.items()}


def _as_is(value: Any) -> Any:
    return value


def _decoder(feature: Any) -> Callable[[Any], Any]:
    """Return a function that converts class labels to names, in lists as well, and leaves other values unchanged."""
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel):
        return lambda value: value if not isinstance(value, int) else feature.int2str(value) if value >= 0 else None
    inner = getattr(feature, "feature", None)
    if isinstance(inner, ClassLabel):
        decode = _decoder(inner)
        return lambda values: None if values is None else [decode(value) for value in values]
    return _as_is


def _table_rows(path: Path, delimiter: str, has_header: bool) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, column name → cell) of each row after the header. A cell may contain line breaks."""
    rows = _plain_rows(path, delimiter) if _has_plain_quotes(path, delimiter) else _quoted_rows(path, delimiter)
    first = next(rows)
    line, header = first[0], [name.strip() for name in first[1]]
    if has_header:
        repeated = [name for name, count in Counter(header).items() if count > 1]
        if repeated:
            raise bad_input(path, "two columns have this name", line=line, field=min(repeated))
    else:
        header = [str(number) for number in range(1, len(header) + 1)]
        rows = chain([first], rows)
    for line, row in rows:
        if len(row) > len(header):
            names = "the header has" if has_header else "the first row has"
            raise bad_input(path, f"has {len(row)} cells, but {names} {len(header)}", line=line)
        if row:
            yield line, dict(zip(header, row, strict=False))


def _delimiter(path: Path, usual: str) -> str:
    """Return the usual delimiter or, if the first line does not contain it, the one that csv's Sniffer finds."""
    lines = [line for _, line in islice(read_raw_lines(path), SNIFFED_LINES)]
    if not lines or usual in lines[0]:
        return usual
    try:
        found = csv.Sniffer().sniff("".join(lines)[:SNIFFED_CHARACTERS], OTHER_DELIMITERS).delimiter
    except csv.Error:
        return usual
    if found not in lines[0]:
        return usual
    warn_once(path, f"its columns are read as separated by {NAMES[found]}, not by {NAMES[usual]}")
    return found


NAMES = {",": "','", ";": "';'", "|": "'|'", "\t": "tabs"}
"""Delimiter → its name in messages."""


def _has_plain_quotes(path: Path, delimiter: str) -> bool:
    """Return whether quotes have no special meaning and every line has the same number of cells, as in GLUE's .tsv."""
    if delimiter != "\t" or _is_quoted(path, delimiter):
        return False
    return len({len(cells) for _, cells in _plain_rows(path, delimiter)}) == 1


def _is_quoted(path: Path, delimiter: str) -> bool:
    """Return whether the whole table is valid if quotes have their special meaning."""
    try:
        for _ in _quoted_rows(path, delimiter):
            pass
    except UserError:
        return False
    return True


def _plain_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of each line, without special meaning of quotes."""
    for number, line in read_raw_lines(path):
        yield number, line.removesuffix("\n").removesuffix("\r").split(delimiter)


def _quoted_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number of the first cell, cells) of each row."""
    old_limit = csv.field_size_limit(MAX_LINE)  # a cell may be a long document
    reader = csv.reader(_table_lines(path), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "If a cell starts with a quote, quote the whole cell and double the quotes inside."
        raise bad_input(path, f"is not a valid table: {error}. {hint}", line=max(reader.line_num, 1)) from error
    finally:
        csv.field_size_limit(old_limit)


def _table_lines(path: Path) -> Iterator[str]:
    """Yield lines with their line breaks. A single carriage return also ends a line, as in old spreadsheets."""
    for _, line in read_raw_lines(path):
        yield from filter(None, re.split(r"(?<=\r)(?!\n)", line))
