"""Sentences with a label per word: CoNLL columns, or records with lists of words and labels."""

import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmg.base.errors import bad_input
from nmg.base.files import write_aside, write_text
from nmg.data.formats.reading import NO_CONTEXT, name_field, read_raw_lines, text_value
from nmg.data.formats.tables import read_records

OUTSIDE = "O"
"""Label of a word that belongs to no entity."""
NAMELESS = "entity"
"""Entity type of tags without a type (B, I)."""
_TAG = re.compile(r"(?P<prefix>[BIESLU])-(?P<type>.+)")
_SUFFIX_TAG = re.compile(r"(?P<type>.+)-(?P<prefix>[BIESLU])")
_BARE_TAG = re.compile(r"(?P<prefix>[BIESLU])")
_AS_IOBES = {"L": "E", "U": "S"}


@dataclass(frozen=True)
class TokenExample:
    """A sentence with one label per word: O, or B-, I-, E- or S- followed by the entity type."""

    id: str
    words: tuple[str, ...]
    labels: tuple[str, ...]
    context_id: int

    @property
    def passage(self) -> str:
        """The words, joined by single spaces."""
        return " ".join(self.words)


def read_conll(
    path: Path, known_labels: Collection[str] | None = None, word_column: int = 1, tag_column: int | None = None
) -> list[TokenExample]:
    """Return the sentences of a file with one word per line, in file order.

    The id of a sentence is the line number of its first word. Columns are separated by tabs if the line has any,
    otherwise by white space. A blank line ends a sentence. Lines that begin with -DOCSTART- are skipped. Lines before a
    sentence that begin with # and have no tag are skipped, too (comments of CoNLL-U and MultiCoNER).

    Args:
        path: the file.
        known_labels: the labels of the training examples; None accepts any label.
        word_column: column of the words, from 1.
        tag_column: column of the tags, from 1; None means the last column of each line.

    Returns:
        The sentences, without contexts.

    Raises:
        UserError: with the line, for a missing column, an empty word, an invalid tag or a tag outside `known_labels`.
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
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        tags = cells[-1:] if tag_column is None else cells[tag_column - 1 : tag_column]
        if not words and cells[0].startswith("#") and not any(map(_label_of, tags)):
            continue
        word, tag = _word_and_tag(cells, word_column, tag_column or len(cells), path, number)
        if _label_of(tag) is None:
            raise bad_input(path, _no_tag(tag, cells), line=number)
        first = first if words else number
        words.append(word)
        labels.append(_checked(tag, known_labels, path, number, None))
    finish()
    if not examples:
        raise bad_input(path, "contains no sentences")
    return examples


def _word_and_tag(cells: Sequence[str], word_column: int, tag_column: int, path: Path, line: int) -> tuple[str, str]:
    """Return the word and the tag of a line.

    Args:
        cells: the columns of the line.
        word_column: column of the word, from 1.
        tag_column: column of the tag, from 1.
        path: the file, for messages.
        line: line number from 1, for messages.

    Returns:
        Word and tag.

    Raises:
        UserError: if a column is missing or the word is empty.
    """
    if len(cells) < 2:
        raise bad_input(path, "has one column, but needs a column of words and a column of tags", line=line)
    for name, column in (("word_column", word_column), ("tag_column", tag_column)):
        if column > len(cells):
            raise bad_input(path, f"has {len(cells)} columns, but data.{name} is {column}", line=line)
    if not cells[word_column - 1]:
        raise bad_input(path, f"the word in column {word_column} is empty", line=line)
    return cells[word_column - 1], cells[tag_column - 1]


def _no_tag(tag: str, cells: Sequence[str]) -> str:
    """Return the message for an invalid tag, with the column that is probably meant."""
    problem = f"'{tag}' is not an entity tag (O, or B-, I-, E- or S- and a type, e.g. B-Disease)"
    others = [number for number, cell in enumerate(cells, start=1) if _label_of(cell) is not None]
    if others:
        return f"{problem}. Column {others[0]} has one. Set data.tag_column to {others[0]}."
    return f"{problem}. nmg does not support part-of-speech tagging."


def read_token_records(
    path: Path, text_field: str = "text", label_field: str = "label", known_labels: Collection[str] | None = None
) -> list[TokenExample]:
    """Return the sentences of records with a list of words and a list of labels.

    The id is the field `id` if there is one, otherwise the line number.

    Args:
        path: the file or data set (`tables.read_records`).
        text_field: the field of the words.
        label_field: the field of the labels.
        known_labels: the labels of the training examples; None accepts any label.

    Returns:
        The sentences in file order, without contexts. Empty sentences are skipped.

    Raises:
        UserError: with line and field, for a missing list, lists of different lengths, a word that is blank or not a
            string, or an invalid or unknown label.
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
        raise bad_input(path, "contains no sentences")
    return examples


_NOT_IN_COLUMNS = re.compile(r"-DOCSTART-|.*[\t\n]", re.DOTALL)


def write_conll(examples: Sequence[TokenExample], path: Path) -> None:
    """Write two columns, word and label, separated by a tab.

    Raises UserError for a word or label that such a column cannot contain.
    """
    for example in examples:
        for cell in (*example.words, *example.labels):
            if _NOT_IN_COLUMNS.match(cell):
                problem = f"'{cell}' of sentence '{example.id}' cannot be written in columns. Write a .jsonl file."
                raise bad_input(path, problem)
    sentences = (zip(example.words, example.labels, strict=True) for example in examples)
    write_text(path, "\n".join("".join(f"{word}\t{label}\n" for word, label in one) for one in sentences))


def write_token_records(
    examples: Sequence[TokenExample], path: Path, text_field: str = "text", label_field: str = "label"
) -> None:
    """Write id, words and labels as JSONL.

    Args:
        examples: the sentences to write.
        path: the file to write.
        text_field: the field of the words.
        label_field: the field of the labels.

    Raises:
        UserError: if the file cannot be written.
    """
    rows = ({"id": one.id, text_field: one.words, label_field: one.labels} for one in examples)
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _label_of(tag: str) -> str | None:
    """Return the label of a tag; None if the tag is invalid.

    BILOU's L and U become the E and S of IOBES. The type may come first (PER-B) or be missing (B).
    """
    tag = unicodedata.normalize("NFC", tag)
    if tag == OUTSIDE:
        return tag
    found = _TAG.fullmatch(tag) or _SUFFIX_TAG.fullmatch(tag) or _BARE_TAG.fullmatch(tag)
    if found is None:
        return None
    parts = found.groupdict()
    return f"{_AS_IOBES.get(parts['prefix'], parts['prefix'])}-{parts.get('type', NAMELESS)}"


def _checked(tag: str, known: Collection[str] | None, path: Path, line: int, field: str | None) -> str:
    """Return the label of a tag.

    Args:
        tag: the tag as written in the file.
        known: the labels of the training examples; None accepts any label.
        path: the file, for messages.
        line: line number from 1, for messages.
        field: field of the tag, for messages; None without fields.

    Returns:
        The label.

    Raises:
        UserError: if the tag is invalid or its label is not in `known`.
    """
    label = _label_of(tag)
    if label is None:
        raise bad_input(path, _no_tag(tag, ()), line=line, field=field)
    if known is not None and label not in known:
        raise bad_input(path, f"no training example has entities of the type in '{tag}'", line=line, field=field)
    return label


def _strings(record: Mapping[str, Any], name: str, path: Path, line: int) -> Iterator[str]:
    """Yield the words or labels in field `name` of a record.

    Args:
        record: the record.
        name: the field.
        path: the file, for messages.
        line: line number from 1, for messages.

    Returns:
        The strings, without surrounding white space.

    Raises:
        UserError: if the field is not a list of non-blank strings.
    """
    values = record.get(name)
    if not isinstance(values, list):
        known = ", ".join(f"'{key}'" for key in record)
        raise bad_input(path, f"is missing or not a list (found: {known or 'no fields'})", line=line, field=name)
    for number, value in enumerate(values):
        yield text_value(value, path, line=line, field=f"{name}[{number}]").strip()
