"""Texts with one label each: JSONL, CSV or TSV, by the file's ending."""

import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmg.data.formats.reading import (
    MAX_LINE,
    NO_CONTEXT,
    name_field,
    read_json_lines,
    read_raw_lines,
    string_field,
)
from nmg.errors import bad_input
from nmg.files import write_aside

DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class ClassificationExample:
    id: str
    text: str
    label: str
    context_id: int

    @property
    def passage(self) -> str:
        return self.text


def read_classification(
    path: Path, text_field: str = "text", label_field: str = "label", known_labels: Collection[str] | None = None
) -> list[ClassificationExample]:
    """The examples in file order. An `id` field is used where there is one, else the line number is the id.

    Raises UserError, with line and field, for a missing, blank or non-string field (a label may be an integer), a
    second example of the same id, and a label outside `known_labels` where these are given.
    """
    examples = []
    lines_of_ids: dict[str, int] = {}
    for line, record in _records(path):
        text = string_field(record, text_field, path, line=line)
        label = name_field(record, label_field, path, line=line)
        if known_labels is not None and label not in known_labels:
            raise bad_input(path, f"no training example has the label '{label}'", line=line, field=label_field)
        identity = name_field(record, "id", path, line=line) if "id" in record else str(line)
        if identity in lines_of_ids:
            raise bad_input(path, f"'{identity}' is the id of line {lines_of_ids[identity]} too", line=line, field="id")
        lines_of_ids[identity] = line
        examples.append(ClassificationExample(identity, text, label, NO_CONTEXT))
    if not examples:
        raise bad_input(path, "holds no examples")
    return examples


def write_classification(
    examples: Sequence[ClassificationExample], path: Path, text_field: str = "text", label_field: str = "label"
) -> None:
    """Write id, text and label as JSONL, CSV or TSV, by the ending of `path`."""
    rows = [{"id": example.id, text_field: example.text, label_field: example.label} for example in examples]
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        if path.suffix in DELIMITERS:
            writer = csv.DictWriter(
                file, ["id", text_field, label_field], delimiter=DELIMITERS[path.suffix], lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    delimiter = DELIMITERS.get(Path(path.name.removesuffix(".gz")).suffix)
    return read_json_lines(path) if delimiter is None else _table_rows(path, delimiter)


def _table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, column name → cell) of each row below the header; a cell may run over several lines."""
    old_limit = csv.field_size_limit(MAX_LINE)  # a cell may be a long document
    reader = csv.reader(_table_lines(path), delimiter=delimiter, strict=True)
    try:
        header = next(reader)
        repeated = [name for name, count in Counter(header).items() if count > 1]
        if repeated:
            raise bad_input(path, "two columns have this name", line=1, field=min(repeated))
        line = reader.line_num + 1
        for row in reader:
            if len(row) > len(header):
                raise bad_input(path, f"has {len(row)} cells, but the header names {len(header)}", line=line)
            if row:
                yield line, dict(zip(header, row, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "a cell that starts with a quote must be quoted as a whole, its own quotes doubled"
        raise bad_input(path, f"is not a valid table: {error}; {hint}", line=max(reader.line_num, 1)) from error
    finally:
        csv.field_size_limit(old_limit)


def _table_lines(path: Path) -> Iterator[str]:
    """Lines with their breaks, which may be carriage returns alone, as old spreadsheets write them."""
    for _, line in read_raw_lines(path):
        yield from filter(None, re.split(r"(?<=\r)(?!\n)", line))
