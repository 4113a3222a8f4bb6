"""All a run knows of its task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nmg.types import Context, Example


@dataclass(frozen=True)
class TaskData:
    """The ids of `contexts` are their indices, in file order of the training file."""

    train: tuple[Example, ...]
    """the labelled examples training may use; `context_id` is an index into `contexts`"""
    validation: tuple[Example, ...] | None
    """None where no file is given; `context_id` is -1"""
    test: tuple[Example, ...] | None
    """None where no file is given; `context_id` is -1"""
    contexts: tuple[Context, ...]
    """distinct texts (classification) or passages (qa) of the whole training file, less dropped duplicates"""


def distinct_texts(examples: Iterable[Example]) -> list[str]:
    """The passages of the examples, each once, in order of first occurrence."""
    return list(dict.fromkeys(example.passage for example in examples))


def sample(examples: Sequence[Example], count: int, rng: np.random.Generator) -> list[Example]:
    """`count` of the examples (all if there are no more), in their old order."""
    if count >= len(examples):
        return list(examples)
    return [examples[index] for index in np.sort(rng.choice(len(examples), count, replace=False))]
