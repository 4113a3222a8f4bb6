"""Examples and contexts of a run's task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nmg.base.types import Context, Example


@dataclass(frozen=True)
class TaskData:
    """The labelled examples and contexts of a run. A context's id is its index, in the order of the training file."""

    train: tuple[Example, ...]
    """Labelled training examples; `context_id` is an index into `contexts`."""
    validation: tuple[Example, ...] | None
    """Validation examples with `context_id` -1; None if there is no validation file."""
    test: tuple[Example, ...] | None
    """Test examples with `context_id` -1; None if there is no test file."""
    contexts: tuple[Context, ...]
    """Distinct texts (classification) or passages (question answering) of the whole training file, without removed
    duplicates."""


def distinct_texts(examples: Iterable[Example]) -> list[str]:
    """Return the distinct passages of the examples, in order of first occurrence."""
    return list(dict.fromkeys(example.passage for example in examples))


def sample(examples: Sequence[Example], count: int, rng: np.random.Generator) -> list[Example]:
    """Return a random sample of `count` examples in their original order; all examples if there are no more.

    Args:
        examples: the examples to sample from.
        count: number of examples to return.
        rng: source of randomness; unused if all examples are returned.

    Returns:
        The sample.
    """
    if count >= len(examples):
        return list(examples)
    return [examples[index] for index in np.sort(rng.choice(len(examples), count, replace=False))]
