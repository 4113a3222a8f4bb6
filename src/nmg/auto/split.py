"""Divides labelled examples, so that the decision rests on examples that nothing was chosen by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmg.base.errors import UserError
from nmg.base.seeding import StreamName
from nmg.base.settings import DataSettings
from nmg.base.types import Example
from nmg.config import Config
from nmg.data.near_duplicates import groups
from nmg.tasks.base import TaskKind
from nmg.tasks.loaded import LoadedData
from nmg.tasks.registry import task_kind

ENDINGS = (".json", ".jsonl")
"""File extensions of the divided files: the first one that the task can write."""


@dataclass(frozen=True)
class Divided:
    """The data of the stages. The test set is in none of them."""

    tuning: DataSettings
    """Data of the audit and of learning: `validation` is the part that scores them."""
    decision: DataSettings
    """Data of the comparison: `test` is the other part."""
    examples: tuple[int, int]
    """Number of validation examples for tuning and for the decision."""


def divide(config: Config, folder: Path) -> Divided:
    """Divide the validation examples into two halves, and write them into `folder`.

    Without a validation file, two parts of `meta.validation_fraction` each are first cut from the training examples.
    Texts that are equal once folded are in the same part. The same settings and files give the same parts.

    Args:
        config: The settings of the user.
        folder: Folder of the new files.

    Returns:
        The data of the stages.

    Raises:
        UserError: A file is invalid, or there are too few different texts.
    """
    data, kind = config.data, task_kind(config.data.task)
    loaded = LoadedData(data.model_copy(update={"test": None}))
    randomness = StreamName(config.run.seed) / "auto" / "split"
    train = data.train
    if loaded.validation is not None:
        tuning, decision = _parts(loaded.validation, (0.5,), randomness)
    else:
        share = config.meta.validation_fraction
        tuning, decision, rest = _parts(loaded.train, (share, share), randomness)
        train = str(_write(rest, folder / "train", kind, data))
    ends = [_write(part, folder / name, kind, data) for part, name in ((tuning, "tuning"), (decision, "decision"))]
    common = data.model_copy(update={"train": train, "validation": str(ends[0]), "test": None})
    return Divided(
        tuning=common,
        decision=common.model_copy(update={"test": str(ends[1]), "test_examples": None}),
        examples=(len(tuning), len(decision)),
    )


def _parts(examples: Sequence[Example], shares: Sequence[float], randomness: StreamName) -> list[list[Example]]:
    """Divide examples into one part per share and a rest, each in the order of the file.

    Args:
        examples: The examples.
        shares: Approximate fraction of the examples in each part.
        randomness: Random stream of the division.

    Returns:
        The parts; the rest is the last one.

    Raises:
        UserError: A part would be empty.
    """
    group_of = groups(example.passage for example in examples)
    order = randomness.generator().permutation(np.unique(group_of))
    sizes = np.bincount(group_of)[order]
    middles = (np.cumsum(sizes) - sizes / 2) / len(examples)
    part_of_group = np.zeros(len(group_of), dtype=np.int64)
    part_of_group[order] = np.searchsorted(np.cumsum(shares), middles, side="right")
    part_of = part_of_group[group_of]
    parts = [[one for one, of in zip(examples, part_of, strict=True) if of == part] for part in range(len(shares) + 1)]
    if not all(parts):
        raise UserError(
            f"there are too few different validation texts ({len(order)}) to tune on some and to decide on others. "
            "Give more examples: --data.validation FILE."
        )
    return parts


def _write(examples: Sequence[Example], path: Path, kind: TaskKind, settings: DataSettings) -> Path:
    """Write examples in a format of their task and return the path with its extension."""
    ending = next(ending for ending in ENDINGS if ending in kind.formats and kind.formats[ending].write is not None)
    write = kind.formats[ending].write
    assert write is not None, "the ending was chosen because the task can write it"
    path = path.with_suffix(ending)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(examples, path, settings)
    return path
