"""Labelled texts or pairs of texts, in tables or in one folder per label."""

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from nmg.base.errors import bad_input
from nmg.base.files import write_aside
from nmg.data.formats.labels import MISSING_CELLS, class_names, is_missing
from nmg.data.formats.reading import NO_CONTEXT, name_field, read_text, string_field
from nmg.data.formats.tables import DELIMITERS, ending_of, read_records
from nmg.data.notices import warn_once

UNLABELLED = "unsup"
"""Name of a folder of unlabelled texts, as in IMDb's training set."""


@dataclass(frozen=True)
class ClassificationExample:
    """A text, or a pair of texts, with its label."""

    id: str
    text: str
    label: str
    context_id: int
    pair: str | None = None
    """The second text of a pair; None for a single text."""

    @property
    def passage(self) -> str:
        """The text, or both texts of a pair with a space between them."""
        return self.text if self.pair is None else f"{self.text} {self.pair}"


def read_classification(
    path: Path,
    text_field: str = "text",
    label_field: str = "label",
    known_labels: Collection[str] | None = None,
    pair_field: str | None = None,
) -> list[ClassificationExample]:
    """Read the examples in file order. They are pairs of texts if `pair_field` is given.

    The id is the field `id` if there is one, otherwise the line number. Examples without a label are skipped, and a
    warning gives their number.

    Args:
        path: a table, JSON, or a data set of the hub (`tables.read_records`).
        text_field: the field of the text.
        label_field: the field of the label (`labels.class_names` defines which labels form one class).
        known_labels: the labels of the training examples; None accepts any label.
        pair_field: the field of the second text of a pair.

    Returns:
        The examples, without contexts.

    Raises:
        UserError: with line and field, for a missing, blank or non-string text, a duplicate id, a file without labels,
            or a label outside `known_labels`.
    """
    examples = []
    labels: list[tuple[int, Any]] = []
    lines_of_ids: dict[str, int] = {}
    n_missing, is_table = 0, ending_of(path) in DELIMITERS
    for line, record in read_records(path, (text_field, label_field, *([pair_field] if pair_field else []))):
        if label_field in record and is_missing(record[label_field], is_cell=is_table):
            n_missing += 1
            continue
        text = string_field(record, text_field, path, line=line)
        pair = None if pair_field is None else string_field(record, pair_field, path, line=line)
        if label_field not in record:
            string_field(record, label_field, path, line=line)  # raises
        identity = name_field(record, "id", path, line=line) if "id" in record else str(line)
        if identity in lines_of_ids:
            raise bad_input(
                path, f"'{identity}' is also the id of line {lines_of_ids[identity]}", line=line, field="id"
            )
        lines_of_ids[identity] = line
        labels.append((line, record[label_field]))
        examples.append(ClassificationExample(identity, text, "", NO_CONTEXT, pair))
    if not examples and n_missing:
        raise bad_input(path, "no record has a label", field=label_field)
    if not examples:
        raise bad_input(path, "contains no examples")
    names = class_names(labels, path, label_field)
    for (line, _), name in zip(labels, names, strict=True):
        if known_labels is not None and name not in known_labels:
            raise bad_input(path, f"no training example has the label '{name}'", line=line, field=label_field)
    if n_missing:
        kinds, count = "NA" if is_table else "null", f"{n_missing} of {n_missing + len(examples)}"
        warn_once(path, f"records whose {label_field} is empty or {kinds} are left out: {count}")
    return [replace(example, label=name) for example, name in zip(examples, names, strict=True)]


def write_classification(
    examples: Sequence[ClassificationExample],
    path: Path,
    text_field: str = "text",
    label_field: str = "label",
    pair_field: str | None = None,
) -> None:
    """Write id, text, second text (if any) and label as JSONL, CSV or TSV, depending on the file extension.

    Args:
        examples: the examples to write.
        path: the file to write.
        text_field: the field of the text.
        label_field: the field of the label.
        pair_field: the field of the second text; None writes single texts.

    Raises:
        UserError: for a label that would be read as missing from a table, or if the file cannot be written.
    """
    pair = {pair_field: "pair"} if pair_field else {}
    columns = {"id": "id", text_field: "text", **pair, label_field: "label"}
    rows = [{column: getattr(one, attribute) for column, attribute in columns.items()} for one in examples]
    lost = MISSING_CELLS.intersection(one.label for one in examples)
    if lost and path.suffix in DELIMITERS:
        raise bad_input(path, f"the label '{min(lost)}' means a missing label in a table. Write a .jsonl file.")
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        if path.suffix in DELIMITERS:
            _write_table(list(columns), rows, file, DELIMITERS[path.suffix])
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_table(columns: Sequence[str], rows: Sequence[Mapping[str, str]], file: TextIO, delimiter: str) -> None:
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
    for cells in (list(columns), *([row[column] for column in columns] for row in rows)):
        (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)


def read_label_folders(path: Path, known_labels: Collection[str] | None = None) -> list[ClassificationExample]:
    """Read the .txt files in the subfolders of `path`. The name of a subfolder is the label of its texts, as in IMDb.

    Folders and files are sorted by name. Raises UserError if there are no texts, or for a label that is not in
    `known_labels`, if given.
    """
    files = [file for file in sorted(path.glob("*/*.txt")) if file.parent.name != UNLABELLED]
    if not files:
        raise bad_input(
            path, "contains no folders of .txt files. Put the texts of each label into a folder named after the label."
        )
    for file in files:
        if known_labels is not None and file.parent.name not in known_labels:
            raise bad_input(file, f"no training example has the label '{file.parent.name}'")
    return [
        ClassificationExample(f"{file.parent.name}/{file.stem}", read_text(file), file.parent.name, NO_CONTEXT)
        for file in files
    ]
