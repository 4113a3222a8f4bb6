"""Reads and writes texts, or pairs of texts, with a label of any kind: a class, a list of labels, or a number."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from nmg.base.errors import bad_input
from nmg.base.files import write_aside
from nmg.data.formats.labels import MISSING_CELLS, is_missing
from nmg.data.formats.reading import name_field, string_field
from nmg.data.formats.tables import DELIMITERS, ending_of, read_records
from nmg.data.notices import warn_once


class Texts:
    """Base of the examples of all tasks on texts or pairs of texts."""

    text: str
    pair: str | None
    """The second text of a pair; None for a single text."""

    @property
    def passage(self) -> str:
        """The text, or both texts of a pair with a space between them."""
        return self.text if self.pair is None else f"{self.text} {self.pair}"


@dataclass(frozen=True)
class TextFields:
    """Names of the fields of a labelled text."""

    text: str = "text"
    label: str = "label"
    pair: str | None = None
    """Field of the second text; None for single texts."""


@dataclass(frozen=True)
class LabelledText:
    """A record with its label as written in the file."""

    line: int
    id: str
    text: str
    pair: str | None
    value: Any


class Identified(Protocol):
    """An example of any of these tasks."""

    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def pair(self) -> str | None: ...


def read_labelled_texts(path: Path, fields: TextFields, *, may_be_blank: bool = False) -> list[LabelledText]:
    """Read the records in file order. Records without a label are skipped, and a warning gives their number.

    The id is the field `id` if there is one, otherwise the line number.

    Args:
        path: a table, JSON, or a data set of the hub (`tables.read_records`).
        fields: the names of the fields.
        may_be_blank: whether an empty label is a label.

    Returns:
        The records, at least one.

    Raises:
        UserError: with line and field, for a missing, blank or non-string text, a missing field, a duplicate id, or a
            file without labels.
    """
    found: list[LabelledText] = []
    lines_of_ids: dict[str, int] = {}
    n_missing, is_table = 0, ending_of(path) in DELIMITERS
    for line, record in read_records(path, (fields.text, fields.label, *([fields.pair] if fields.pair else []))):
        if fields.label in record:
            value = record[fields.label]
            is_blank = isinstance(value, str) and not value.strip()
            if is_missing(value, is_cell=is_table) and not (may_be_blank and is_blank):
                n_missing += 1
                continue
        text = string_field(record, fields.text, path, line=line)
        pair = None if fields.pair is None else string_field(record, fields.pair, path, line=line)
        if fields.label not in record:
            string_field(record, fields.label, path, line=line)  # raises
        identity = name_field(record, "id", path, line=line) if "id" in record else str(line)
        if identity in lines_of_ids:
            raise bad_input(
                path, f"'{identity}' is also the id of line {lines_of_ids[identity]}", line=line, field="id"
            )
        lines_of_ids[identity] = line
        found.append(LabelledText(line, identity, text, pair, record[fields.label]))
    if not found and n_missing:
        raise bad_input(path, "no record has a label", field=fields.label)
    if not found:
        raise bad_input(path, "contains no examples")
    if n_missing:
        kinds, count = "NA" if is_table else "null", f"{n_missing} of {n_missing + len(found)}"
        what = kinds if may_be_blank else f"empty or {kinds}"
        warn_once(path, f"records whose {fields.label} is {what} are left out: {count}")
    return found


def write_labelled_texts(
    examples: Iterable[Identified],
    path: Path,
    fields: TextFields,
    value_of: Callable[[Any], Any],
) -> None:
    """Write id, text, second text (if any) and label as JSONL, CSV or TSV, depending on the file extension.

    Args:
        examples: the examples to write.
        path: the file to write.
        fields: the names of the fields.
        value_of: returns the label of an example as it is written to this file.

    Raises:
        UserError: for a label that would be read as missing from a table, or if the file cannot be written.
    """
    rows = []
    for one in examples:
        pair = {fields.pair: one.pair} if fields.pair else {}
        rows.append({"id": one.id, fields.text: one.text, **pair, fields.label: value_of(one)})
    is_table = path.suffix in DELIMITERS
    for row in rows if is_table else ():
        if row[fields.label] in MISSING_CELLS:
            problem = f"the label '{row[fields.label]}' means a missing label in a table. Write a .jsonl file."
            raise bad_input(path, problem)
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        if is_table:
            names = list(dict.fromkeys(["id", fields.text, *([fields.pair] if fields.pair else []), fields.label]))
            _write_table(names, rows, file, DELIMITERS[path.suffix])
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], file: TextIO, delimiter: str) -> None:
    """Write a header and rows. Rows with a carriage return in a cell, which would end the line, are quoted.

    Args:
        columns: names of the columns.
        rows: column name → cell of each row.
        file: the file to write to.
        delimiter: the character between cells.
    """
    plain, quoted = (
        csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for cells in (list(columns), *([str(row[column]) for column in columns] for row in rows)):
        (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)
