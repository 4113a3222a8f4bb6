"""Texts, or pairs of texts, with one label each: tables, and folders of a label's texts, by the file's ending."""

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmg.data.formats.reading import NO_CONTEXT, name_field, read_text, string_field
from nmg.data.formats.tables import DELIMITERS, read_records
from nmg.errors import bad_input
from nmg.files import write_aside

UNLABELLED = "unsup"
"""Folder of texts without a label, as IMDb's training set has one."""


@dataclass(frozen=True)
class ClassificationExample:
    id: str
    text: str
    label: str
    context_id: int
    pair: str | None = None
    """the second text, of a pair"""

    @property
    def passage(self) -> str:
        return self.text if self.pair is None else f"{self.text} {self.pair}"


def read_classification(
    path: Path,
    text_field: str = "text",
    label_field: str = "label",
    known_labels: Collection[str] | None = None,
    pair_field: str | None = None,
) -> list[ClassificationExample]:
    """The examples in file order, pairs of texts where `pair_field` names the second.

    An `id` field is used where there is one, else the line number is the id.

    Raises UserError, with line and field, for a missing, blank or non-string field (a label may be an integer), a
    second example of the same id, and a label outside `known_labels` where these are given.
    """
    examples = []
    lines_of_ids: dict[str, int] = {}
    for line, record in read_records(path, (text_field, label_field, *([pair_field] if pair_field else []))):
        text = string_field(record, text_field, path, line=line)
        pair = None if pair_field is None else string_field(record, pair_field, path, line=line)
        label = _label(record, label_field, path, line)
        if known_labels is not None and label not in known_labels:
            raise bad_input(path, f"no training example has the label '{label}'", line=line, field=label_field)
        identity = name_field(record, "id", path, line=line) if "id" in record else str(line)
        if identity in lines_of_ids:
            raise bad_input(path, f"'{identity}' is the id of line {lines_of_ids[identity]} too", line=line, field="id")
        lines_of_ids[identity] = line
        examples.append(ClassificationExample(identity, text, label, NO_CONTEXT, pair))
    if not examples:
        raise bad_input(path, "holds no examples")
    return examples


def write_classification(
    examples: Sequence[ClassificationExample],
    path: Path,
    text_field: str = "text",
    label_field: str = "label",
    pair_field: str | None = None,
) -> None:
    """Write id, text, the second text where there is one, and label as JSONL, CSV or TSV, by the ending of `path`."""
    pair = {pair_field: "pair"} if pair_field else {}
    columns = {"id": "id", text_field: "text", **pair, label_field: "label"}
    rows = [{column: getattr(one, attribute) for column, attribute in columns.items()} for one in examples]
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        if path.suffix in DELIMITERS:
            writer = csv.DictWriter(file, list(columns), delimiter=DELIMITERS[path.suffix], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_label_folders(path: Path, known_labels: Collection[str] | None = None) -> list[ClassificationExample]:
    """The .txt files of the folders in `path`: a folder's name is the label of its texts, as in IMDb.

    Folders come by name, and files by name. Raises UserError for a folder without texts and for labels outside
    `known_labels` where these are given.
    """
    files = [file for file in sorted(path.glob("*/*.txt")) if file.parent.name != UNLABELLED]
    if not files:
        raise bad_input(path, "holds no folders of .txt files; each label needs one, named after it")
    for file in files:
        if known_labels is not None and file.parent.name not in known_labels:
            raise bad_input(file, f"no training example has the label '{file.parent.name}'")
    return [
        ClassificationExample(f"{file.parent.name}/{file.stem}", read_text(file), file.parent.name, NO_CONTEXT)
        for file in files
    ]


def _label(record: Mapping[str, Any], field: str, path: Path, line: int) -> str:
    """Raises UserError for a list of labels and for a number that is no integer: these are tasks of other kinds."""
    value = record.get(field)
    if isinstance(value, list):
        problem = "holds a list, but each text takes one label (nmg does no multi-label classification)"
        raise bad_input(path, problem, line=line, field=field)
    if isinstance(value, float) or (isinstance(value, str) and _is_fraction(value)):
        problem = f"holds the number {value}, but labels are classes (nmg does no regression)"
        raise bad_input(path, problem, line=line, field=field)
    return name_field(record, field, path, line=line)


def _is_fraction(text: str) -> bool:
    """Whether it is a number with a decimal point, as scores of CSV files are."""
    whole, point, rest = text.strip().partition(".")
    return bool(point) and rest.isdecimal() and (whole.lstrip("+-") or "0").isdecimal()
