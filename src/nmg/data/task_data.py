"""Settings → training, validation and test examples, and the contexts of the corpus."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from nmg.config import DataSettings
from nmg.data.formats.classification import read_classification
from nmg.data.formats.mrqa import read_mrqa
from nmg.data.formats.squad import read_squad
from nmg.data.formats.text import read_texts
from nmg.errors import UserError, bad_input
from nmg.seeding import stream
from nmg.types import ClassificationExample, Context, Example, QAExample

TaskName: TypeAlias = Literal["classification", "qa"]


@dataclass(frozen=True)
class TaskData:
    """All a run knows of its task. The ids of `contexts` are their indices, in file order of the training file."""

    train: tuple[Example, ...]
    """the labelled examples training may use; `context_id` is an index into `contexts`"""
    validation: tuple[Example, ...] | None
    """None where no file is given; `context_id` is -1"""
    test: tuple[Example, ...] | None
    """None where no file is given; `context_id` is -1"""
    contexts: tuple[Context, ...]
    """distinct texts (classification) or passages (qa) of the whole training file"""


def load_task_data(settings: DataSettings, seed: int) -> TaskData:
    """Read the files, number the contexts and draw the samples that `settings` asks for.

    Samples come from streams named by their purpose, and keep the file's order. Raises UserError for whatever is wrong
    with a file, and for a label of validation or test that no training example has.
    """
    examples = _read_train(settings)
    known = None
    if settings.task == "classification":
        known = labels(examples)
        if len(known) < 2:
            problem = f"classification needs two labels or more, all examples have '{known[0]}'"
            raise bad_input(str(settings.train), problem, field=settings.label_field)

    def held_out(file: str | None) -> tuple[Example, ...] | None:
        return None if file is None else tuple(_read(settings, file, known))

    texts = distinct_texts(examples)
    ids = {text: index for index, text in enumerate(texts)}
    numbered = [replace(example, context_id=ids[text_of(example)]) for example in examples]
    test = held_out(settings.test)
    if test is not None and settings.test_examples is not None:
        test = tuple(sample(test, settings.test_examples, stream(seed, "data", "test")))
    return TaskData(
        train=tuple(_few_shot(numbered, settings, seed)),
        validation=held_out(settings.validation),
        test=test,
        contexts=tuple(Context(index, text) for index, text in enumerate(texts)),
    )


def load_corpus_texts(settings: DataSettings) -> list[str]:
    """The texts to adapt on: those of `data.corpus`, else the distinct contexts of the training file."""
    if settings.corpus is not None:
        return read_texts(Path(settings.corpus).expanduser())
    return distinct_texts(_read_train(settings))


def read_examples(
    path: Path,
    task: TaskName,
    text_field: str = "text",
    label_field: str = "label",
    known_labels: Collection[str] | None = None,
) -> Sequence[Example]:
    """The examples of a file whose format follows from the task and the file's ending; every `context_id` is -1."""
    ending = Path(path.name.removesuffix(".gz")).suffix
    if task == "classification" and ending in {".jsonl", ".csv", ".tsv"}:
        return read_classification(path, text_field, label_field, known_labels)
    if task == "qa" and ending == ".json":
        return read_squad(path)
    if task == "qa" and ending == ".jsonl":
        return read_mrqa(path)
    wanted = ".json (SQuAD 1.1) or .jsonl (MRQA)" if task == "qa" else ".jsonl, .csv or .tsv"
    raise bad_input(path, f"a {task} file must end in {wanted}")


def labels(examples: Iterable[Example]) -> tuple[str, ...]:
    """The distinct labels, sorted; questions have none."""
    return tuple(sorted({example.label for example in examples if isinstance(example, ClassificationExample)}))


def text_of(example: Example) -> str:
    """The example's context: its passage, or its text."""
    return example.context if isinstance(example, QAExample) else example.text


def distinct_texts(examples: Iterable[Example]) -> list[str]:
    """The contexts of the examples, each once, in order of first occurrence."""
    return list(dict.fromkeys(map(text_of, examples)))


def sample(examples: Sequence[Example], count: int, rng: np.random.Generator) -> list[Example]:
    """`count` of the examples (all if there are no more), in their old order."""
    if count >= len(examples):
        return list(examples)
    return [examples[index] for index in np.sort(rng.choice(len(examples), count, replace=False))]


def _read_train(settings: DataSettings) -> Sequence[Example]:
    if settings.train is None:
        raise UserError(
            "there is no training data; give --data.train FILE, or 'train' under 'data' in the configuration"
        )
    return _read(settings, settings.train)


def _read(settings: DataSettings, file: str, known_labels: Collection[str] | None = None) -> Sequence[Example]:
    path = Path(file).expanduser()
    return read_examples(path, settings.task, settings.text_field, settings.label_field, known_labels)


def _few_shot(examples: Sequence[Example], settings: DataSettings, seed: int) -> list[Example]:
    """The labelled examples that are kept; at least one of every label."""
    kept = list(range(len(examples)))
    if settings.labelled_per_class is not None:
        if settings.task != "classification":
            raise UserError("data.labelled_per_class is for classification; use data.labelled_examples")
        kept = _per_label(examples, kept, settings.labelled_per_class, seed, "labelled_per_class")
    count = settings.labelled_examples
    if count is not None and count < len(kept):
        needed = _per_label(examples, kept, 1, seed, "labelled_examples")
        if count < len(needed):
            raise UserError(f"data.labelled_examples {count} is less than the number of labels, {len(needed)}")
        others = np.setdiff1d(kept, needed)
        rng = stream(seed, "data", "labelled_examples")
        kept = sorted([*needed, *rng.choice(others, count - len(needed), replace=False).tolist()])
    return [examples[index] for index in kept]


def _per_label(examples: Sequence[Example], indices: list[int], count: int, seed: int, purpose: str) -> list[int]:
    """At most `count` indices of each label; none if the examples have no labels."""
    of_label: dict[str, list[int]] = {}
    for index in indices:
        example = examples[index]
        if isinstance(example, ClassificationExample):
            of_label.setdefault(example.label, []).append(index)
    kept: list[int] = []
    for label, members in of_label.items():
        rng = stream(seed, "data", purpose, label)  # one for each label: a new label leaves the others' draws alone
        kept += members if count >= len(members) else rng.choice(members, count, replace=False).tolist()
    return sorted(kept)
