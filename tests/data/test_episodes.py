"""The split of a run and the draws of an episode."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from nmg.base.errors import UserError
from nmg.base.seeding import stream
from nmg.base.settings import MetaSettings
from nmg.base.types import Context, Example, IntArray
from nmg.data.corpus import Corpus
from nmg.data.episodes import sample_episode, split_contexts
from nmg.data.formats.classification import ClassificationExample
from nmg.data.near_duplicates import folded
from nmg.data.task_data import TaskData


def text(context_id: int) -> str:
    """Of words, for texts that differ in digits alone are near_duplicates."""
    return f"the cat {chr(97 + context_id // 26)}{chr(97 + context_id % 26)}"


def example(context_id: int, number: int) -> ClassificationExample:
    return ClassificationExample(f"{context_id}-{number}", text(context_id), "x", context_id)


@pytest.fixture
def data() -> TaskData:
    """40 contexts; those of even id have three examples each, the others none."""
    contexts = tuple(Context(i, text(i)) for i in range(40))
    return TaskData(tuple(example(i, j) for j in range(3) for i in range(0, 40, 2)), None, None, contexts)


@pytest.fixture
def corpus(data: TaskData, byte_level: PreTrainedTokenizerBase, tmp_path: Path) -> Corpus:
    return Corpus.build([context.text for context in data.contexts], byte_level, 2, tmp_path)


def meta(**settings: Any) -> MetaSettings:
    return MetaSettings(**settings)


def test_split(data: TaskData) -> None:
    split = split_contexts(data, meta(), 0)
    held_out = {example.context_id for example in split.validation_examples}
    assert len(held_out) == 2
    assert len(split.validation_examples) == 6
    assert held_out.isdisjoint(split.train_context_ids.tolist())
    assert sorted([*held_out, *split.train_context_ids]) == list(range(0, 40, 2))
    assert split_contexts(data, meta(), 0).validation_examples == split.validation_examples
    assert any(split_contexts(data, meta(), s).validation_examples != split.validation_examples for s in (1, 2, 3))


def test_split_with_validation_file(data: TaskData) -> None:
    given = tuple(replace(example(0, number), context_id=-1) for number in range(9))
    split = split_contexts(replace(data, validation=given), meta(), 0)
    assert split.validation_examples == given
    assert split.train_context_ids.tolist() == list(range(0, 40, 2))
    capped = split_contexts(replace(data, validation=given), meta(max_validation_examples=4), 0).validation_examples
    assert len(set(capped)) == 4
    assert set(capped) < set(given)


def test_split_is_capped(data: TaskData) -> None:
    assert len(split_contexts(data, meta(max_validation_examples=5), 0).validation_examples) == 5


def test_a_small_share_still_takes_one_context(data: TaskData) -> None:
    assert len(split_contexts(data, meta(validation_fraction=0.001), 0).validation_examples) == 3


def with_texts(data: TaskData, *texts: str) -> TaskData:
    """One labelled example a text."""
    examples = tuple(ClassificationExample(str(i), text, "x", i) for i, text in enumerate(texts))
    return TaskData(examples, None, None, tuple(Context(i, text) for i, text in enumerate(texts)))


def test_twins_stay_on_one_side(data: TaskData) -> None:
    """Thirty sentences, each with five pairs of marked entities, as in ChemProt."""
    words = [f"{text(i)} inhibits" for i in range(30)]
    marked = [f"<<{word}>> [[COX-{number}]]" for number in range(5) for word in words]
    for seed in range(5):
        split = split_contexts(with_texts(data, *marked), meta(), seed)
        held_out = {folded(example.passage) for example in split.validation_examples}
        assert len(held_out) == 3
        assert len(split.validation_examples) == 15
        assert held_out.isdisjoint(folded(marked[i]) for i in split.train_context_ids)
        assert len(split.train_context_ids) == 135


def test_without_twins_the_split_is_that_of_its_contexts(data: TaskData) -> None:
    """A permutation of the contexts that have labelled examples, whose first share is held out."""
    order = stream(4, "split", "contexts").permutation(np.arange(0, 40, 2))
    assert split_contexts(data, meta(), 4).train_context_ids.tolist() == sorted(order[2:].tolist())


def test_all_texts_are_twins(data: TaskData) -> None:
    with pytest.raises(UserError, match="of 3 contexts leaves none for training"):
        split_contexts(with_texts(data, "Cats 1", "cats 2", "<<cats>> 3"), meta(), 0)


def test_near_duplicates_of_what_is_put_aside_are_dropped_where_asked_for(data: TaskData) -> None:
    long = " ".join(text(i) for i in range(10))
    texts = [f"{long} {text(i)}" if i < 20 else f"{text(i)} alone here" for i in range(40)]
    kept = split_contexts(with_texts(data, *texts), meta(), 1)
    dropped = split_contexts(with_texts(data, *texts), meta(), 1, drop_duplicates=True)
    assert dropped.validation_examples == kept.validation_examples
    assert any(example.passage.startswith(long) for example in kept.validation_examples)
    assert dropped.train_context_ids.tolist() == [i for i in kept.train_context_ids if i >= 20]


def test_split_that_leaves_nothing(data: TaskData) -> None:
    with pytest.raises(UserError, match=r"meta\.validation_fraction 0\.99 of 20 contexts leaves none for training"):
        split_contexts(data, meta(validation_fraction=0.99), 0)
    one = replace(data, train=data.train[:1])
    with pytest.raises(UserError, match="of 1 contexts leaves none"):
        split_contexts(one, meta(), 0)


def test_episode(data: TaskData, corpus: Corpus) -> None:
    split = split_contexts(data, meta(), 0)
    episode = sample_episode(3, split, data, corpus, meta(contexts=5, examples=11), 0)
    contexts = set(corpus.context_ids[episode.block_ids].tolist())
    assert episode.index == 3
    assert len(contexts) == 5
    assert contexts <= set(split.train_context_ids.tolist())
    assert episode.block_ids.tolist() == corpus.blocks_of(np.array(list(contexts))).tolist()
    assert len(episode.block_ids) > 5
    assert len(set(episode.row_ids.tolist())) == 11
    assert {data.train[index].context_id for index in episode.row_ids} <= contexts


def test_episodes_are_drawn_by_index_and_seed(data: TaskData, corpus: Corpus) -> None:
    split = split_contexts(data, meta(), 0)
    settings = meta(contexts=5, examples=11)

    def draw(index: int, seed: int) -> tuple[list[int], list[int]]:
        episode = sample_episode(index, split, data, corpus, settings, seed)
        return episode.block_ids.tolist(), episode.row_ids.tolist()

    assert draw(3, 0) == draw(3, 0)
    for other in (draw(4, 0), draw(3, 1)):
        assert all(mine != its for mine, its in zip(draw(3, 0), other, strict=True))
    everything = meta(contexts=40, examples=11)
    same_contexts = [sample_episode(index, split, data, corpus, everything, 0) for index in (3, 4)]
    assert same_contexts[0].row_ids.tolist() != same_contexts[1].row_ids.tolist()
    # How many examples are kept does not move the contexts.
    some, more = (sample_episode(3, split, data, corpus, meta(contexts=5, examples=n), 0) for n in (2, 12))
    assert some.block_ids.tolist() == more.block_ids.tolist()


def test_episode_of_all_there_is(data: TaskData, corpus: Corpus) -> None:
    split = split_contexts(data, meta(), 0)
    episode = sample_episode(0, split, data, corpus, meta(), 0)
    assert set(corpus.context_ids[episode.block_ids].tolist()) == set(split.train_context_ids.tolist())
    assert len(episode.row_ids) == 54


ROWS_OF = {0: 1, 2: 4, 4: 2}
"""rows of each example, by its context modulo 6: long passages give several"""


def row_counts(examples: Sequence[Example]) -> IntArray:
    return np.array([ROWS_OF[example.context_id % 6] for example in examples])


def test_an_episode_may_count_rows(data: TaskData, corpus: Corpus) -> None:
    """Rows are drawn one by one: of an example some may be in, and some not."""
    split = split_contexts(data, meta(), 0)
    example_of_row = np.repeat(np.arange(len(data.train)), row_counts(data.train))

    def rows(**settings: Any) -> IntArray:
        return sample_episode(3, split, data, corpus, meta(contexts=5, **settings), 0, example_of_row).row_ids

    drawn = rows(examples=11, count_by="rows")
    everything = rows(examples=1000, count_by="rows")
    assert len(set(drawn.tolist())) == 11
    assert set(drawn.tolist()) < set(everything.tolist())
    assert drawn.tolist() == sorted(drawn.tolist())
    assert everything.tolist() == rows(examples=1000).tolist()
    of_whole_examples = rows(examples=11)
    assert len(set(example_of_row[of_whole_examples].tolist())) == 11
    assert len(of_whole_examples) == row_counts([data.train[i] for i in set(example_of_row[of_whole_examples])]).sum()


def test_a_validation_set_may_count_rows(data: TaskData) -> None:
    """Whole examples, with the rows of all together within the limit, and not far below it."""
    held_out = split_contexts(data, meta(validation_fraction=0.5), 0).validation_examples
    for most in (10, 20, 1000):
        settings = meta(validation_fraction=0.5, max_validation_examples=most, count_by="rows")
        chosen = split_contexts(data, settings, 0, row_counts=row_counts).validation_examples
        n_rows = int(row_counts(chosen).sum())
        assert n_rows <= most
        assert n_rows > min(most, row_counts(held_out).sum()) - 4
        assert set(chosen) <= set(held_out)
        assert [held_out.index(one) for one in chosen] == sorted(held_out.index(one) for one in chosen)
    one = split_contexts(data, meta(max_validation_examples=1, count_by="rows"), 1, row_counts=row_counts)
    assert len(one.validation_examples) == 1
