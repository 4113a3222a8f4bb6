"""Data that are read once: samples are those of data read for themselves alone, and no duplicate is left."""

from itertools import product

import numpy as np
import pytest

from nmg.base.settings import DataSettings
from nmg.data.formats.text import Texts
from nmg.data.overlap import overlaps
from nmg.tasks.load import with_labels
from nmg.tasks.loaded import LoadedData, load_corpus_texts
from support.files import Write

WORDS = ["".join(pair) for pair in product("abcdefg", repeat=2)]


def table(texts: list[str]) -> str:
    return "text,label\n" + "".join(f"{text},{'xy'[number % 2]}\n" for number, text in enumerate(texts))


@pytest.fixture
def settings(write: Write) -> DataSettings:
    """Texts of which some resemble others: each of a chain is near the next, but not near the one after it."""
    rng = np.random.default_rng(0)
    train, validation, test = ([" ".join(rng.choice(WORDS, 12)) for _ in range(n)] for n in (30, 8, 12))
    chain = rng.choice(WORDS, 30)
    chains = [" ".join(chain[start : start + 22]) for start in (0, 2, 4)]
    test[3], validation[2], train[4] = chains
    train[5], train[7] = test[0], validation[0]
    files = {"train": train, "validation": validation, "test": test}
    paths = {name: str(write(f"{name}.csv", table(texts))) for name, texts in files.items()}
    paths["corpus"] = str(write("corpus.txt", "\n".join([*train[:9], test[1], "some domain text"]) + "\n"))
    return DataSettings(**paths, drop_duplicates=True)


@pytest.mark.parametrize("drop", [False, True])
def test_samples_of_data_that_are_read_once(settings: DataSettings, drop: bool):
    settings = settings.model_copy(update={"drop_duplicates": drop})
    loaded = LoadedData(settings)
    for seed, labelled, n_test in ((0, None, None), (1, 2, 5), (2, 2, None), (1, 4, 7), (0, None, 5)):
        sampled = with_labels(settings, labelled).model_copy(update={"test_examples": n_test})
        assert loaded.sample(sampled, seed) == LoadedData(sampled).sample(sampled, seed)
    assert list(loaded.corpus_texts) == list(load_corpus_texts(settings))


def test_samples_are_of_the_files_that_were_loaded(settings: DataSettings):
    with pytest.raises(AssertionError, match="samples need the settings that were loaded"):
        LoadedData(settings).sample(settings.model_copy(update={"drop_duplicates": False}), 0)


def test_a_corpus_stays_on_disk(settings: DataSettings):
    loaded = LoadedData(settings.model_copy(update={"drop_duplicates": False}))
    assert isinstance(loaded.corpus_texts, Texts)
    assert loaded.corpus_texts is loaded.corpus_texts


@pytest.mark.parametrize("has_corpus", [False, True])
def test_no_overlap_is_left_between_files(settings: DataSettings, has_corpus: bool):
    """So commands need not search for overlaps again."""
    settings = settings if has_corpus else settings.model_copy(update={"corpus": None})
    loaded = LoadedData(settings)
    data = loaded.sample(settings, 0)
    sides = {name: [one.passage for one in getattr(data, name)] for name in ("train", "validation", "test")}
    assert overlaps(sides | {"corpus": loaded.corpus_texts}) == []
    assert (len(data.train), len(data.validation or ())) == (28, 7)


def test_a_chain_of_near_duplicates(settings: DataSettings):
    """A validation text that is dropped drops no training example, but its near duplicates are not adapted on."""
    loaded = LoadedData(settings.model_copy(update={"corpus": None}))
    end = loaded.train[4].passage
    assert end in [context.text for context in loaded.sample(settings.model_copy(update={"corpus": None}), 0).contexts]
    assert end not in loaded.corpus_texts
