"""Guesses the task of a data file and the fields of its texts and labels, from the first records."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nmg.base.errors import UserError, bad_input
from nmg.data.formats.multi_label import SEPARATOR
from nmg.data.formats.tables import DELIMITERS, ending_of, read_records
from nmg.tasks.base import TaskKind
from nmg.tasks.classification import CLASSIFICATION
from nmg.tasks.load import guess_task
from nmg.tasks.multi_label import MULTI_LABEL
from nmg.tasks.qa import QUESTION_ANSWERING
from nmg.tasks.registry import task_kind
from nmg.tasks.regression import REGRESSION
from nmg.tasks.tokens import TOKEN_CLASSIFICATION

SAMPLE = 500
"""Number of records that are looked at."""
TEXT_NAMES = ("text", "sentence", "content", "review", "document", "abstract", "comment", "body", "tweet", "tokens")
LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "sentiment", "score", "similarity", "rating", "stars"),
    *("relation", "gold_label", "topic", "intent", "ner_tags", "tags", "y"),
)
PAIRS = (("premise", "hypothesis"), ("question", "sentence"), ("query", "passage"), ("text", "pair"))
"""Usual names of fields, in lower case."""
PAIR_NAMES = re.compile(r"(?P<stem>.*?)[_-]?(?P<place>[12ab])")
NUMBERED = {"1": "2", "a": "b"}
"""Two fields are a pair if their names differ only in such an ending: sentence1 and sentence2, text_a and text_b."""
ID_NAMES = re.compile(r"(.*[_-])?(id|idx|index|guid|uid)|unnamed.*|", re.IGNORECASE)
NUMBER_NAMES = ("score", "similarity", "rating")
FEWEST_WORDS = 3
"""Mean number of words from which a field is a text."""
MOST_CLASSES = 20
"""Maximum number of different whole numbers that are classes."""

Choose = Callable[[str, Sequence[str]], str]
"""Function of (what to choose, names of fields) that returns a name; called if the names do not tell."""


@dataclass(frozen=True)
class Guess:
    """The task of a file and the settings of its fields."""

    kind: TaskKind
    fields: Mapping[str, str]
    """Field of `DataSettings` → name of a field in the file; only what differs from the defaults."""


def guess_data(path: Path, task: str | None, given: Mapping[str, str | None], choose: Choose) -> Guess:
    """Guess what a data file is.

    Args:
        path: A data file of a task, a folder, or a data set of the hub.
        task: The task, or None to guess it.
        given: Field of `DataSettings` → name of a field in the file, or None to guess it.
        choose: Called if the label or the text cannot be told from the names and values.

    Returns:
        The task and the fields.

    Raises:
        UserError: If the file cannot be read, or has no field of texts or labels.
    """
    known = {name: value for name, value in given.items() if value is not None}
    kind = guess_task(path) if task is None else task_kind(task)
    if kind is QUESTION_ANSWERING or ending_of(path) not in {*DELIMITERS, ".jsonl", ".json", ".parquet", "hub:"}:
        return Guess(kind, known)
    columns = _columns(path)
    if kind is TOKEN_CLASSIFICATION:
        return Guess(kind, _changed({**_lists(columns), **known}))
    label = known.get("label_field") or _label(columns, path, choose)
    if label not in columns:
        raise bad_input(path, f"there is no such field (found: {', '.join(columns)})", field=label)
    texts = [name for name, values in columns.items() if name != label and _is_text(name, values)]
    fields = {**_texts(texts, columns, path, choose), "label_field": label, **known}
    if task is None:
        kind = _kind_of_labels(label, columns[label], is_table=ending_of(path) in DELIMITERS)
    return Guess(kind, _changed(fields))


def no_choice(what: str, names: Sequence[str]) -> str:
    """Raise UserError, because there is no one to choose a field."""
    raise UserError(f"cannot tell which field is the {what} (fields: {', '.join(names)}). Give --{what}-field NAME.")


def _columns(path: Path) -> dict[str, list[Any]]:
    """Return field → values that are not missing, of the first records."""
    columns: dict[str, list[Any]] = {}
    for _, record in islice(read_records(path), SAMPLE):
        for name, value in record.items():
            values = columns.setdefault(name, [])
            if value is not None and value != "":
                values.append(value)
    return {name: values for name, values in columns.items() if values}


def _is_text(name: str, values: Sequence[Any]) -> bool:
    """Return whether the values are texts: strings of several words, or of any length under a usual name."""
    if ID_NAMES.fullmatch(name) or not all(isinstance(value, str) for value in values):
        return False
    words = sum(len(value.split()) for value in values) / len(values)
    return words >= FEWEST_WORDS or name.lower() in TEXT_NAMES


def _label(columns: Mapping[str, Sequence[Any]], path: Path, choose: Choose) -> str:
    """Return the field of the labels: by its name, or as the only field that is neither a text nor an id."""
    by_name = {name.lower(): name for name in columns}
    for name in LABEL_NAMES:
        if name in by_name:
            return by_name[name]
    others = [name for name in columns if not ID_NAMES.fullmatch(name) and not _is_text(name, columns[name])]
    if len(others) == 1:
        return others[0]
    if not columns:
        raise bad_input(path, "contains no examples")
    return choose("label", others or list(columns))


def _texts(texts: Sequence[str], columns: Mapping[str, Sequence[Any]], path: Path, choose: Choose) -> dict[str, str]:
    """Return the fields of the text and of its pair, if it has one."""
    if not texts:
        found = ", ".join(columns)
        raise bad_input(path, f"there is no field of texts (found: {found}). Give --text-field NAME.")
    by_name = {name.lower(): name for name in texts}
    for first, second in PAIRS:
        if first in by_name and second in by_name:
            return {"text_field": by_name[first], "pair_field": by_name[second]}
    for name, written in by_name.items():
        place = PAIR_NAMES.fullmatch(name)
        other = f"{name[:-1]}{NUMBERED.get(place['place'])}" if place else ""
        if other in by_name:
            return {"text_field": written, "pair_field": by_name[other]}
    named = [by_name[name] for name in TEXT_NAMES if name in by_name]
    chosen = named[0] if named else texts[0] if len(texts) == 1 else choose("text", texts)
    return {"text_field": chosen}


def _lists(columns: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Return the fields of the words and of the tags of sentences."""
    lists = {name.lower(): name for name, values in columns.items() if isinstance(values[0], list)}
    words = next((name for name in ("tokens", "words", "text") if name in lists), None)
    tags = next((name for name in ("ner_tags", "tags", "labels", "label") if name in lists), None)
    named = {"text_field": words and lists[words], "label_field": tags and lists[tags]}
    return {field: name for field, name in named.items() if name}


def _kind_of_labels(name: str, values: Sequence[Any], *, is_table: bool) -> TaskKind:
    """Return the task that such labels belong to: lists, numbers or classes."""
    if isinstance(values[0], list):
        return MULTI_LABEL
    if is_table and _are_joined(values):
        return MULTI_LABEL
    numbers = [_number(value) for value in values]
    if any(number is None for number in numbers):
        return CLASSIFICATION
    distinct = {number for number in numbers if number is not None}
    has_fractions = any(number != int(number) for number in distinct)
    many = MOST_CLASSES if name.lower() not in NUMBER_NAMES else 2
    return REGRESSION if has_fractions or len(distinct) > many else CLASSIFICATION


def _are_joined(values: Sequence[str]) -> bool:
    """Return whether cells of a table hold several labels each, which also occur in other cells."""
    parts = [part for value in values for part in str(value).split(SEPARATOR)]
    return len(parts) > 1.05 * len(values) and len(set(parts)) < len({str(value) for value in values})


def _number(value: Any) -> float | None:
    """Return a finite number, or None if the value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e15 else None


def _changed(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields whose names are not the defaults."""
    defaults = {"text_field": "text", "label_field": "label"}
    return {field: name for field, name in fields.items() if defaults.get(field) != name}
