"""The split of a run, and what each episode sees of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nmg.data.corpus import Corpus
from nmg.data.task_data import TaskData, sample
from nmg.data.twins import groups, near
from nmg.errors import UserError
from nmg.seeding import stream
from nmg.settings import MetaSettings
from nmg.types import BoolArray, Episode, Example, IntArray

RowCounts: TypeAlias = Callable[[Sequence[Example]], IntArray]
"""examples → int64 [E], the rows (model inputs) that each of them has"""


@dataclass(frozen=True)
class MetaSplit:
    """Fixed for a run."""

    train_context_ids: IntArray
    """contexts that episodes draw from: sorted, each with at least one training example"""
    validation_examples: tuple[Example, ...]
    """what every player of every episode is scored on; none is of a training context (unless the files overlap)"""


def split_contexts(
    data: TaskData, meta: MetaSettings, seed: int, *, drop_duplicates: bool = False, row_counts: RowCounts | None = None
) -> MetaSplit:
    """Put `validation_share` of the contexts that have examples aside; their examples are the validation set.

    Contexts that are the same once folded (`data.twins`) go to one side together, so a little more may be put aside; at
    least one context is. With `drop_duplicates` near duplicates of the validation set are not trained on. With a
    validation file its examples are taken instead and all contexts train. Raises UserError if none is left to train on.

    Args:
        data: the examples and contexts of the run.
        meta: its numbers of contexts and examples.
        seed: the run's.
        drop_duplicates: as `data.drop_duplicates`.
        row_counts: needed with `meta.count_by` `rows`.
    """
    context_ids = np.unique(_context_of(data))
    if data.validation is not None:
        held_out: tuple[Example, ...] = data.validation
    else:
        texts = [data.contexts[context_id].text for context_id in context_ids]
        is_aside = _put_aside(texts, meta.validation_share, seed)
        aside = set(context_ids[is_aside].tolist())
        held_out = tuple(example for example in data.train if example.context_id in aside)
        if drop_duplicates:
            is_aside = near(texts, [data.contexts[context_id].text for context_id in aside])
        if is_aside.all():
            raise UserError(
                f"meta.validation_share {meta.validation_share} of {len(context_ids)} contexts leaves none to train "
                "on; lower it or give --data.validation FILE"
            )
        context_ids = context_ids[~is_aside]
    rng = stream(seed, "split", "examples")
    if meta.count_by == "examples":
        return MetaSplit(context_ids, tuple(sample(held_out, meta.max_validation_examples, rng)))
    assert row_counts is not None, "rows are counted"
    return MetaSplit(context_ids, _whole(held_out, row_counts(held_out), meta.max_validation_examples, rng))


def _whole(examples: Sequence[Example], n_rows: IntArray, most: int, rng: np.random.Generator) -> tuple[Example, ...]:
    """Random examples of at most `most` rows together, in their old order; at least one example.

    An example is taken with all its rows, as its scores need them all.
    """
    order = rng.permutation(len(examples))
    n_taken = max(1, int((np.cumsum(n_rows[order]) <= most).sum()))
    return tuple(examples[index] for index in np.sort(order[:n_taken]))


def _put_aside(texts: Sequence[str], share: float, seed: int) -> BoolArray:
    """bool [n]: groups of texts that are the same once folded, in random order, until they hold `share` of all."""
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
    """Draw the contexts of episode `index`, all their blocks, and at most `meta.examples` of their examples or rows.

    The draw depends on seed and index alone, not on other episodes.

    Args:
        index: of the episode, from 0.
        split: of the run.
        data: whose training examples are drawn.
        corpus: built from `data.contexts`.
        meta: numbers of contexts and examples, and what they count.
        seed: the run's.
        example_of_row: int64 [F], the training example of each row; None if every example is one row.
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
    """int64 [n_examples]: the context of each training example."""
    return np.fromiter((example.context_id for example in data.train), dtype=np.int64, count=len(data.train))
