"""Records, field by field: JSONL, CSV, TSV and Parquet files, and data sets of the hub."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmg.data.formats.hub import HUB, open_hub
from nmg.data.formats.reading import part_of, read_json_lines, read_text
from nmg.errors import bad_input

if TYPE_CHECKING:
    from datasets import Features

DELIMITERS = {".csv": ",", ".tsv": "\t"}


def ending_of(path: Path) -> str:
    """The ending of a file's name, .gz not counted: '.jsonl'; '/' of a folder, 'hub:' of a data set of the hub."""
    if str(path).startswith(HUB):
        return HUB
    file, _ = part_of(path)
    return "/" if file.is_dir() else Path(file.name.removesuffix(".gz")).suffix


def read_records(path: Path, fields: Sequence[str] = ()) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(number from 1 of the line, or of the row in Parquet and on the hub; field → value) of each record.

    Class labels that Parquet and the hub hold as numbers come as their names; None where a number has none. If all of
    `fields` are numbers, a CSV or TSV file has no header, and they count its columns from 1. Raises UserError where the
    file cannot be read or is no such table.
    """
    ending = ending_of(path)
    if ending == HUB:
        rows = open_hub(path)
        yield from _decoded(rows, rows.features)
    elif ending == ".parquet":
        yield from _parquet_rows(path)
    elif ending in DELIMITERS:
        has_header = not fields or not all(field.isdecimal() for field in fields)
        yield from _table_rows(path, DELIMITERS[ending], has_header)
    else:
        yield from read_json_lines(path)


def source_content(path: Path) -> bytes:
    """What identifies the data: the bytes of a file, those of a folder's texts with their names, or the hub's rows."""
    if ending_of(path) == HUB:
        return json.dumps(open_hub(path).to_list(), default=str).encode()
    file, part = part_of(path)
    if file.is_dir():
        names_and_texts = (
            (str(text.relative_to(file)).encode(), text.read_bytes()) for text in sorted(file.rglob("*.txt"))
        )
        return b"".join(len(name).to_bytes(8, "little") + name + text for name, text in names_and_texts)
    return file.read_bytes() + (b"" if part is None else f"@{part}".encode())


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=1024) for row in batch.to_pylist())
            features = None
            if b"huggingface" in (file.schema_arrow.metadata or {}):  # written by `datasets`, which knows the labels
                from datasets import Features

                features = Features.from_arrow_schema(file.schema_arrow)
            yield from _decoded(rows, features)
    except OSError as error:
        raise bad_input(path, f"cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise bad_input(path, f"is not a whole Parquet file: {error}") from error


def _decoded(rows: Iterator[Any], features: "Features | None") -> Iterator[tuple[int, Mapping[str, Any]]]:
    decoders = {name: _decoder(feature) for name, feature in (features or {}).items()}
    for number, row in enumerate(rows, start=1):
        yield number, {name: decoders.get(name, _as_is)(value) for name, value in row.items()}


def _as_is(value: Any) -> Any:
    return value


def _decoder(feature: Any) -> Callable[[Any], Any]:
    """Class labels by name, in lists too; everything else as it is."""
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel):
        return lambda value: value if not isinstance(value, int) else feature.int2str(value) if value >= 0 else None
    inner = getattr(feature, "feature", None)
    if isinstance(inner, ClassLabel):
        decode = _decoder(inner)
        return lambda values: None if values is None else [decode(value) for value in values]
    return _as_is


def _table_rows(path: Path, delimiter: str, has_header: bool) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, column name → cell) of each row below the header; a cell may run over several lines."""
    text = read_text(path)
    try:
        rows = _cells(text, delimiter)
    except _TableError as error:
        plain = [line.removesuffix("\r").split(delimiter) for line in text.split("\n")]
        if plain[-1] == [""]:
            del plain[-1]
        # In GLUE's files quotes are characters like others: then every line has all cells.
        if delimiter != "\t" or len({len(cells) for cells in plain}) > 1:
            hint = "a cell that starts with a quote must be quoted as a whole, its own quotes doubled"
            raise bad_input(path, f"is not a valid table: {error}; {hint}", line=error.line) from error
        rows = list(enumerate(plain, start=1))
    if has_header:
        (_, header), *rows = rows
        repeated = {name for name in header if header.count(name) > 1}
        if repeated:
            raise bad_input(path, "two columns have this name", line=1, field=min(repeated))
    else:
        header = [str(number) for number in range(1, len(rows[0][1]) + 1)]
    for line, row in rows:
        if len(row) > len(header):
            names = "the header names" if has_header else "the first row has"
            raise bad_input(path, f"has {len(row)} cells, but {names} {len(header)}", line=line)
        if row:
            yield line, dict(zip(header, row, strict=False))


class _TableError(Exception):
    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _cells(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """(line of its first cell, cells) of each row."""
    old_limit = csv.field_size_limit(len(text))  # a cell may be a long document
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, line = [], 1
    try:
        for row in reader:
            rows.append((line, row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise _TableError(str(error), max(reader.line_num, 1)) from error
    finally:
        csv.field_size_limit(old_limit)
    return rows
