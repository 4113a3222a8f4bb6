"""Sentences with a label for each word: CoNLL columns, or a table with lists of words and of labels."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmg.data.formats.reading import NO_CONTEXT, name_field, read_raw_lines, text_value
from nmg.data.formats.tables import read_records
from nmg.errors import bad_input
from nmg.files import write_aside, write_text

OUTSIDE = "O"
_LABEL = re.compile(r"O|[BIESLU]-.+")
_AS_IOBES = {"L": "E", "U": "S"}


@dataclass(frozen=True)
class TokenExample:
    """A sentence; `labels` has one for each of `words`: O, or B-, I-, E- or S- and the type of the entity."""

    id: str
    words: tuple[str, ...]
    labels: tuple[str, ...]
    context_id: int

    @property
    def passage(self) -> str:
        """The words with single spaces between them."""
        return " ".join(self.words)


def read_conll(path: Path, known_labels: Collection[str] | None = None) -> list[TokenExample]:
    """The sentences of a file with a word a line, in file order; the line of its first word is a sentence's id.

    A line has a word in its first column and its label in the last, with tabs or else white space between; a blank line
    ends a sentence; lines that begin with -DOCSTART- are skipped. Raises UserError with the line for a line of one
    column, for what is no label, and for a label outside `known_labels` where these are given.
    """
    examples: list[TokenExample] = []
    words: list[str] = []
    labels: list[str] = []
    first = 0

    def finish() -> None:
        if words:
            examples.append(TokenExample(str(first), tuple(words), tuple(labels), NO_CONTEXT))
        words.clear()
        labels.clear()

    for number, text in read_raw_lines(path):
        line = text.removesuffix("\n").removesuffix("\r")
        if not line.strip() or line.startswith("-DOCSTART-"):
            finish()
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        word, label = cells[0].strip(), cells[-1].strip()
        if len(cells) < 2 or not word:
            raise bad_input(path, "needs a word in the first column and its label in the last", line=number)
        first = first if words else number
        words.append(word)
        labels.append(_checked(label, known_labels, path, number, None))
    finish()
    if not examples:
        raise bad_input(path, "holds no sentences")
    return examples


def read_token_records(
    path: Path, text_field: str = "text", label_field: str = "label", known_labels: Collection[str] | None = None
) -> list[TokenExample]:
    """The sentences of a table (`tables.read_records`) that has a list of words and a list of labels in each record.

    An `id` field is used where there is one, else the number of the line. Raises UserError with line and field for a
    missing list, lists of different lengths, a word that is blank or no string, and labels as in `read_conll`.
    """
    examples = []
    for line, record in read_records(path):
        words = list(_strings(record, text_field, path, line))
        labels = list(_strings(record, label_field, path, line))
        if len(words) != len(labels):
            problem = f"has {len(labels)} labels for {len(words)} words"
            raise bad_input(path, problem, line=line, field=label_field)
        if not words:
            continue
        checked = tuple(_checked(label, known_labels, path, line, label_field) for label in labels)
        identity = name_field(record, "id", path, line=line) if "id" in record else str(line)
        examples.append(TokenExample(identity, tuple(words), checked, NO_CONTEXT))
    if not examples:
        raise bad_input(path, "holds no sentences")
    return examples


def write_conll(examples: Sequence[TokenExample], path: Path) -> None:
    """Write two columns, word and label, with a tab between."""
    sentences = (zip(example.words, example.labels, strict=True) for example in examples)
    write_text(path, "\n".join("".join(f"{word}\t{label}\n" for word, label in one) for one in sentences))


def write_token_records(
    examples: Sequence[TokenExample], path: Path, text_field: str = "text", label_field: str = "label"
) -> None:
    """Write id, words and labels as JSONL."""
    rows = ({"id": one.id, text_field: one.words, label_field: one.labels} for one in examples)
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _checked(label: str, known: Collection[str] | None, path: Path, line: int, field: str | None) -> str:
    """The label; BILOU's L and U as the E and S that they are elsewhere."""
    if not _LABEL.fullmatch(label):
        problem = f"'{label}' is no label of a word: O, or B-, I-, E- or S- and a type, e.g. B-Disease"
        raise bad_input(path, problem, line=line, field=field)
    label = _AS_IOBES.get(label[0], label[0]) + label[1:]
    if known is not None and label not in known:
        raise bad_input(path, f"no training example has entities of the type in '{label}'", line=line, field=field)
    return label


def _strings(record: Mapping[str, Any], name: str, path: Path, line: int) -> Iterator[str]:
    values = record.get(name)
    if not isinstance(values, list):
        known = ", ".join(f"'{key}'" for key in record)
        raise bad_input(path, f"is missing or no list (there are: {known or 'no fields'})", line=line, field=name)
    for number, value in enumerate(values):
        yield text_value(value, path, line=line, field=f"{name}[{number}]").strip()
