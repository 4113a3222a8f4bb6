"""The data split of a run and the data of each episode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nmg.base.errors import UserError
from nmg.base.seeding import stream
from nmg.base.settings import MetaSettings
from nmg.base.types import BoolArray, Episode, Example, IntArray
from nmg.data.corpus import Corpus
from nmg.data.near_duplicates import groups, near
from nmg.data.task_data import TaskData, sample

RowCounts: TypeAlias = Callable[[Sequence[Example]], IntArray]
"""Function from examples to the number of rows (model inputs) of each, int64 [E]."""


@dataclass(frozen=True)
class MetaSplit:
    """Training contexts and validation examples, fixed for a run."""

    train_context_ids: IntArray
    """int64 [n]: sorted contexts that episodes sample from, each with at least one training example."""
    validation_examples: tuple[Example, ...]
    """Examples that score every player. Their contexts are not training contexts, unless the files overlap."""


def split_contexts(
    data: TaskData, meta: MetaSettings, seed: int, *, drop_duplicates: bool = False, row_counts: RowCounts | None = None
) -> MetaSplit:
    """Hold out the fraction `validation_fraction` of the contexts; their examples are the validation set.

    At least one context is held out. Contexts that are equal once folded (`data.near_duplicates`) are held out
    together, so the fraction may be slightly exceeded. With a validation file its examples are used instead, and all
    contexts are for training.

    Args:
        data: the examples and contexts of the run.
        meta: numbers of contexts and examples.
        seed: the run's seed.
        drop_duplicates: whether near duplicates of held-out contexts are excluded from training.
        row_counts: required if `meta.count_by` is `rows`.

    Returns:
        The split. The validation set is sampled down to `meta.max_validation_examples`.

    Raises:
        UserError: if no context is left for training.
    """
    context_ids = np.unique(_context_of(data))
    if data.validation is not None:
        held_out: tuple[Example, ...] = data.validation
    else:
        texts = [data.contexts[context_id].text for context_id in context_ids]
        is_aside = _put_aside(texts, meta.validation_fraction, seed)
        aside = set(context_ids[is_aside].tolist())
        held_out = tuple(example for example in data.train if example.context_id in aside)
        if drop_duplicates:
            is_aside = near(texts, [data.contexts[context_id].text for context_id in aside])
        if is_aside.all():
            raise UserError(
                f"meta.validation_fraction {meta.validation_fraction} of {len(context_ids)} contexts leaves none for "
                "training. Lower it or give --data.validation FILE."
            )
        context_ids = context_ids[~is_aside]
    rng = stream(seed, "split", "examples")
    if meta.count_by == "examples":
        return MetaSplit(context_ids, tuple(sample(held_out, meta.max_validation_examples, rng)))
    assert row_counts is not None, "meta.count_by `rows` needs row_counts"
    return MetaSplit(context_ids, _whole(held_out, row_counts(held_out), meta.max_validation_examples, rng))


def _whole(examples: Sequence[Example], n_rows: IntArray, most: int, rng: np.random.Generator) -> tuple[Example, ...]:
    """Sample examples with a limited total number of rows, in their original order.

    An example is sampled with all of its rows, because its scores need all of them.

    Args:
        examples: the examples to sample from.
        n_rows: int64 [E]: number of rows of each example.
        most: maximum total number of rows; exceeded if the first sampled example alone has more.
        rng: source of randomness.

    Returns:
        The examples, at least one.
    """
    order = rng.permutation(len(examples))
    n_taken = max(1, int((np.cumsum(n_rows[order]) <= most).sum()))
    return tuple(examples[index] for index in np.sort(order[:n_taken]))


def _put_aside(texts: Sequence[str], share: float, seed: int) -> BoolArray:
    """Return bool [n]: True for texts of random groups, which together are the fraction `share` of all texts or more.

    A group consists of all texts that are equal once folded.
    """
    group_of = groups(texts)
    order = stream(seed, "split", "contexts").permutation(np.unique(group_of))
    sizes = np.bincount(group_of)[order]
    size_before = np.cumsum(sizes) - sizes
    chosen: BoolArray = np.isin(group_of, order[size_before < max(1, round(len(texts) * share))])
    return chosen


def sample_episode(
    index: int,
    split: MetaSplit,
    data: TaskData,
    corpus: Corpus,
    meta: MetaSettings,
    seed: int,
    example_of_row: IntArray | None = None,
) -> Episode:
    """Sample the contexts of an episode with all their blocks, and at most `meta.examples` of their examples or rows.

    The sample depends only on seed and index, not on other episodes.

    Args:
        index: episode number, from 0.
        split: the run's split.
        data: source of the training examples.
        corpus: the corpus built from `data.contexts`.
        meta: numbers of contexts and examples, and the unit in which examples are counted.
        seed: the run's seed.
        example_of_row: int64 [F]: index of each row's training example; None if every example has one row.

    Returns:
        The episode.
    """
    rng = stream(seed, "episode", index, "contexts")
    n_contexts = min(meta.contexts, len(split.train_context_ids))
    context_ids = np.sort(rng.choice(split.train_context_ids, n_contexts, replace=False))
    is_drawn = np.isin(_context_of(data), context_ids)
    example_of_row = np.arange(len(is_drawn)) if example_of_row is None else example_of_row
    of_contexts = np.flatnonzero(is_drawn if meta.count_by == "examples" else is_drawn[example_of_row])
    if len(of_contexts) > meta.examples:
        rng = stream(seed, "episode", index, "examples")
        of_contexts = np.sort(rng.choice(of_contexts, meta.examples, replace=False))
    rows = np.flatnonzero(np.isin(example_of_row, of_contexts)) if meta.count_by == "examples" else of_contexts
    return Episode(index, block_ids=corpus.blocks_of(context_ids), row_ids=rows)


def _context_of(data: TaskData) -> IntArray:
    """Return the context of each training example, int64 [n_examples]."""
    return np.fromiter((example.context_id for example in data.train), dtype=np.int64, count=len(data.train))
