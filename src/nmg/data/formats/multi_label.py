"""Reads and writes texts with any number of labels each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmg.base.errors import bad_input
from nmg.data.formats.labelled_texts import TextFields, Texts, read_labelled_texts, write_labelled_texts
from nmg.data.formats.labels import class_names
from nmg.data.formats.reading import NO_CONTEXT
from nmg.data.formats.tables import DELIMITERS, ending_of

SEPARATOR = "|"
"""Separator of the labels in a cell of a table."""


@dataclass(frozen=True)
class MultiLabelExample(Texts):
    """A text, or a pair of texts, with its labels."""

    id: str
    text: str
    labels: tuple[str, ...]
    """The distinct labels, sorted; empty if the text has none."""
    context_id: int
    pair: str | None = None
    label_set: tuple[str, ...] = ()
    """All labels of the training file, sorted. A few-shot sample may lack some."""


def read_multi_label(
    path: Path, fields: TextFields, label_set: tuple[str, ...] | None = None
) -> list[MultiLabelExample]:
    """Read the examples in file order. An empty list, or an empty cell of a table, means that the text has no labels.

    Args:
        path: a table, JSON, or a data set of the hub (`tables.read_records`).
        fields: the names of the fields. A label field holds a list, or in a table labels separated by `SEPARATOR`.
        label_set: the labels of the training examples; None if this file holds them.

    Returns:
        The examples, without contexts.

    Raises:
        UserError: With line and field, as in `read_labelled_texts`. Also if a label field is not a list, a label is
            blank, or a label is not in `label_set`.
    """
    is_table = ending_of(path) in DELIMITERS
    found = read_labelled_texts(path, fields, may_be_blank=is_table)
    members = [_members(one.value, path, one.line, fields.label, is_table=is_table) for one in found]
    lines = [one.line for one, labels in zip(found, members, strict=True) for _ in labels]
    flat = [label for labels in members for label in labels]
    names = class_names(list(zip(lines, flat, strict=True)), path, fields.label)
    known: Collection[str] = names if label_set is None else label_set
    for line, name in zip(lines, names, strict=True):
        if label_set is not None and name not in label_set:
            raise bad_input(path, f"no training example has the label '{name}'", line=line, field=fields.label)
    every, rest = tuple(sorted(set(known))), iter(names)
    return [
        MultiLabelExample(
            one.id, one.text, tuple(sorted({next(rest) for _ in labels})), NO_CONTEXT, one.pair, label_set=every
        )
        for one, labels in zip(found, members, strict=True)
    ]


def _members(value: Any, path: Path, line: int, field: str, *, is_table: bool) -> list[Any]:
    """Return the labels of a field as written. Raises UserError if it does not hold a list of labels."""
    if is_table:
        return value.split(SEPARATOR) if value.strip() else []
    if not isinstance(value, list):
        raise bad_input(path, 'must be a list of labels, such as ["a", "b"] or []', line=line, field=field)
    if any(isinstance(label, list) for label in value):
        raise bad_input(path, "contains a list inside the list of labels", line=line, field=field)
    return value


def write_multi_label(examples: Sequence[MultiLabelExample], path: Path, fields: TextFields) -> None:
    """Write id, text, second text (if any) and labels as JSONL, CSV or TSV, depending on the file extension.

    Args:
        examples: the examples to write.
        path: the file to write.
        fields: the names of the fields.

    Raises:
        UserError: for a label that a cell of a table cannot hold, or if the file cannot be written.
    """
    is_table = path.suffix in DELIMITERS
    for label in {label for one in examples for label in one.labels} if is_table else ():
        if SEPARATOR in label:
            problem = (
                f"the label '{label}' contains '{SEPARATOR}', which separates labels in a table. Write a .jsonl file."
            )
            raise bad_input(path, problem)
    write_labelled_texts(
        examples, path, fields, lambda one: SEPARATOR.join(one.labels) if is_table else list(one.labels)
    )
