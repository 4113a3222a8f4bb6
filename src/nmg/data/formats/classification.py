"""Labelled texts or pairs of texts, in tables or in one folder per label."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmg.base.errors import bad_input
from nmg.data.formats.labelled_texts import TextFields, Texts, read_labelled_texts, write_labelled_texts
from nmg.data.formats.labels import class_names
from nmg.data.formats.reading import NO_CONTEXT, read_text

UNLABELLED = "unsup"
"""Name of a folder of unlabelled texts, as in IMDb's training set."""


@dataclass(frozen=True)
class ClassificationExample(Texts):
    """A text, or a pair of texts, with its label."""

    id: str
    text: str
    label: str
    context_id: int
    pair: str | None = None


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
    fields = TextFields(text_field, label_field, pair_field)
    found = read_labelled_texts(path, fields)
    names = class_names([(one.line, one.value) for one in found], path, label_field)
    for one, name in zip(found, names, strict=True):
        if known_labels is not None and name not in known_labels:
            raise bad_input(path, f"no training example has the label '{name}'", line=one.line, field=label_field)
    return [
        ClassificationExample(one.id, one.text, name, NO_CONTEXT, one.pair)
        for one, name in zip(found, names, strict=True)
    ]


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
    write_labelled_texts(examples, path, TextFields(text_field, label_field, pair_field), lambda one: one.label)


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
