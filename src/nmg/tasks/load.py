"""Reads the examples of a file, guesses its task, and draws few-shot samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmg.base.errors import UserError, bad_input
from nmg.base.seeding import stream
from nmg.base.settings import DataSettings
from nmg.base.types import Example
from nmg.data.formats.hub import HUB, STREAM
from nmg.data.formats.tables import ending_of, read_records
from nmg.data.formats.text import read_texts
from nmg.data.notices import warn_once
from nmg.data.plausibility import invisible_doubts, text_doubts
from nmg.data.task_data import distinct_texts
from nmg.tasks.base import Format, TaskKind
from nmg.tasks.registry import TASKS, task_kind


def with_labels(settings: DataSettings, labelled: int | None) -> DataSettings:
    """Return a copy of the settings with `labelled` labelled examples (per class if the task has classes).

    None means all examples.
    """
    counts: dict[str, int | None] = {"labelled_per_class": None, "labelled_examples": None}
    if labelled is not None:
        counts[task_kind(settings.task).few_labels] = labelled
    return settings.model_copy(update=counts)


def read_examples(
    path: Path, kind: TaskKind, settings: DataSettings, train: Sequence[Example] | None = None
) -> Sequence[Example]:
    """Read the examples of a file, and warn once if they do not look like data of the task.

    Args:
        path: The file; its format follows from the task and the file extension.
        kind: The task.
        settings: The names of fields.
        train: The training examples, or None if the file holds them.

    Returns:
        The examples; every `context_id` is −1.

    Raises:
        UserError: If the file extension is unknown, or the content is invalid.
    """
    try:
        examples = format_of(path, kind).read(path, settings, train)
    except UserError as error:
        other = _owner(path)
        if other is None or other is kind:
            raise
        raise UserError(f"{error}. These look like data of the task '{other.name}': set data.task to it.") from error
    texts = (example.passage for example in examples)
    for doubt in (*text_doubts(texts), *invisible_doubts(examples), *kind.doubts(examples)):
        warn_once(path, doubt)
    return examples


def format_of(path: Path, kind: TaskKind) -> Format:
    """Return the format of a file of the task. Raises UserError if the task does not accept the file extension."""
    found = kind.formats.get(ending_of(path))
    if found is None:
        raise bad_input(path, f"a {kind.name} file must end in {kind.formats_text}")
    return found


def guess_task(path: Path) -> TaskKind:
    """Guess the task of a file by its extension or, if several tasks accept it, by its first record.

    Raises UserError if no task accepts the extension.
    """
    ending = ending_of(path)
    kinds = [kind for kind in TASKS.values() if ending in _guessable(kind)]
    if not kinds:
        known = ", ".join([*_known_endings(), ".txt"])
        raise bad_input(path, f"cannot tell the task from the file extension (known: {known}). Set --task.")
    if len(kinds) > 1:
        kinds = [kind for kind in kinds if kind.owns(_first_record(path))] or kinds
    return kinds[0]


def _owner(path: Path) -> TaskKind | None:
    """Return the task that certainly owns the file, by its first record; None if no task does."""
    ending = ending_of(path)
    try:
        kinds = [kind for kind in TASKS.values() if ending in _guessable(kind)]
        return next((kind for kind in kinds if kind.owns(_first_record(path))), None)
    except UserError:
        return None


def _first_record(path: Path) -> Mapping[str, Any]:
    return next((record for _, record in read_records(path)), {})


def _known_endings() -> list[str]:
    """Return the file extensions of all tasks, sorted."""
    return sorted({ending for kind in TASKS.values() for ending in _guessable(kind) if ending.startswith(".")})


def _guessable(kind: TaskKind) -> list[str]:
    """Return the file extensions that are accepted even if the user does not name the task."""
    return [ending for ending, found in kind.formats.items() if not found.needs_task]


def read_any_texts(path: Path, settings: DataSettings) -> list[str]:
    """Return the texts of a corpus file or folder, or the distinct contexts of a task file.

    The file extension and, for JSON, the first record decide which of the two the file is. Raises UserError if the file
    cannot be read.
    """
    ending = ending_of(path)
    if ending in {".txt", STREAM} or (ending == "/" and any(path.glob("*.txt"))):
        return list(read_texts(path))
    is_text = (
        ending in {".jsonl", ".json"}
        and settings.text_field == "text"
        and isinstance(_first_record(path).get("text"), str)
    )
    if is_text:  # labels are ignored
        return list(read_texts(path))
    if ending not in {*_known_endings(), "/", HUB}:
        raise bad_input(path, f"texts must be .txt, {', '.join(_known_endings())} or a folder of .txt files")
    return distinct_texts(read_examples(path, guess_task(path), settings))


def few_shot(examples: Sequence[Example], settings: DataSettings, kind: TaskKind, seed: int) -> list[Example]:
    """Draw the labelled examples for training, with at least one example per label.

    Args:
        examples: All training examples.
        settings: The number of labelled examples.
        kind: The task.
        seed: Seed of the draw.

    Returns:
        The examples drawn, in the order of the file.

    Raises:
        UserError: If the setting does not fit the task, or if it requests fewer examples than there are labels.
    """
    labels = [kind.label_of(example) for example in examples]
    kept = list(range(len(examples)))
    if settings.labelled_per_class is not None:
        if kind.few_labels != "labelled_per_class":
            raise UserError(
                f"data.labelled_per_class does not apply to the task '{kind.name}'. Use data.labelled_examples."
            )
        kept = _per_label(labels, settings.labelled_per_class, seed, "labelled_per_class")
    count = settings.labelled_examples
    if count is not None and count < len(kept):
        needed = _per_label([labels[index] for index in kept], 1, seed, "labelled_examples")
        needed = [kept[place] for place in needed]
        if count < len(needed):
            raise UserError(f"data.labelled_examples {count} is less than the number of labels, {len(needed)}")
        others = np.setdiff1d(kept, needed)
        rng = stream(seed, "data", "labelled_examples")
        kept = sorted([*needed, *rng.choice(others, count - len(needed), replace=False).tolist()])
    return [examples[index] for index in kept]


def _per_label(labels: Sequence[str | None], count: int, seed: int, purpose: str) -> list[int]:
    """Draw indices of labelled examples; examples without a label are left out.

    Args:
        labels: The label of each example, or None.
        count: Maximum number of indices per label.
        seed: Seed of the draw.
        purpose: Name of the random stream.

    Returns:
        The indices, in ascending order.
    """
    of_label: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        if label is not None:
            of_label.setdefault(label, []).append(index)
    kept: list[int] = []
    for label, members in of_label.items():
        # One stream per label: a new label does not change the draws of others.
        rng = stream(seed, "data", purpose, label)
        kept += members if count >= len(members) else rng.choice(members, count, replace=False).tolist()
    return sorted(kept)
