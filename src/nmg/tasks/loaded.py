"""Loads the data of a command. Each file is read once, near duplicates are found once, and samples are drawn."""

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from nmg.base.errors import UserError
from nmg.base.files import user_path
from nmg.base.seeding import stream
from nmg.base.settings import DataSettings
from nmg.base.types import BoolArray, Context, Example
from nmg.data.formats.text import read_texts
from nmg.data.near_duplicates import near
from nmg.data.overlap import Overlap, overlaps
from nmg.data.task_data import TaskData, distinct_texts, sample
from nmg.tasks.base import TaskKind
from nmg.tasks.load import few_shot, read_examples
from nmg.tasks.registry import task_kind

Item = TypeVar("Item")

SAMPLES = {"labelled_per_class": None, "labelled_examples": None, "test_examples": None}
"""The settings that select a sample. Samples of the same `LoadedData` may differ only in these settings."""
NOT_READING = {"train", "validation", "test", "corpus", "drop_duplicates", *SAMPLES}
"""The settings that do not change how a file is read."""


class LoadedData:
    """The files that the settings name, each read when it is first needed and then kept in memory.

    `data.corpus` may be larger than memory: it stays on disk and is read with each iteration over its texts. The texts
    are held in memory only if `data.drop_duplicates` is set.
    """

    def __init__(self, settings: DataSettings, files: dict[Hashable, Any] | None = None) -> None:
        """Prepare to read the files of `settings`.

        `files` stores what was read. Objects with the same `files` read each common file once.
        """
        self._settings = settings
        self._files = {} if files is None else files

    @property
    def _kind(self) -> TaskKind:
        return task_kind(self._settings.task)

    @cached_property
    def train(self) -> Sequence[Example]:
        """All examples of `data.train`, duplicates included; every `context_id` is −1.

        Raises UserError if there is no such file, or if it cannot be read.
        """
        if self._settings.train is None:
            raise UserError(
                "there is no training data. Give --data.train FILE, or set 'train' under 'data' in the configuration."
            )
        return self._examples(self._settings.train)

    @cached_property
    def validation(self) -> Sequence[Example] | None:
        """All examples of `data.validation`, with duplicates; None without a file. Raises UserError like `train`."""
        return self._held_out(self._settings.validation)

    @cached_property
    def test(self) -> Sequence[Example] | None:
        """All examples of `data.test`; None without a file. Raises UserError like `train`."""
        return self._held_out(self._settings.test)

    def _held_out(self, file: str | None) -> Sequence[Example] | None:
        if file is None:
            return None
        train = None if self._settings.train is None else self.train  # only its labels are accepted
        return self._examples(file, train)

    def _examples(self, file: str, train: Sequence[Example] | None = None) -> Sequence[Example]:
        how = (self._settings.model_dump_json(exclude=NOT_READING), None if train is None else self._settings.train)
        return self._once((file, *how), lambda: read_examples(user_path(file), self._kind, self._settings, train))

    def _once(self, key: Hashable, read: Callable[[], Item]) -> Item:
        """Return the result of `read`, which is stored under `key` and computed only once."""
        if key not in self._files:
            self._files[key] = read()
        return self._files[key]  # type: ignore[no-any-return]

    def sample(self, settings: DataSettings, seed: int) -> TaskData:
        """Draw the few-shot examples and the test examples that the settings request.

        Samples come from random streams named by their purpose, and keep the order of the file.

        Args:
            settings: The settings that were loaded; only the numbers of examples (`SAMPLES`) may differ.
            seed: Seed of the draws.

        Returns:
            The samples, the whole validation set, and the contexts of the whole training set, without duplicates if
            `data.drop_duplicates` is set.

        Raises:
            UserError: If a file is invalid, if a label of validation or test is in no training example, or if a number
                of examples does not fit the task.
        """
        assert without_samples(settings) == without_samples(self._settings), (
            "samples need the settings that were loaded"
        )
        whole = self._whole
        test = whole.test
        if test is not None and settings.test_examples is not None:
            test = tuple(sample(test, settings.test_examples, stream(seed, "data", "test")))
        return replace(whole, train=tuple(few_shot(whole.train, settings, self._kind, seed)), test=test)

    @cached_property
    def _whole(self) -> TaskData:
        """All examples and contexts, without near duplicates if `data.drop_duplicates` is set."""
        settings = self._settings
        self._kind.check_train(self.train, settings)
        train, validation, test = self.train, self.validation, self.test
        if settings.drop_duplicates:
            if validation is not None:
                validation = _rest(validation, self._is_validation_twin, "data.validation")
            train = _rest(train, self._is_train_twin, "data.train")
            self._kind.check_train(train, settings)
        texts = distinct_texts(train)
        ids = {text: index for index, text in enumerate(texts)}
        return TaskData(
            train=tuple(replace(example, context_id=ids[example.passage]) for example in train),
            validation=None if validation is None else tuple(validation),
            test=None if test is None else tuple(test),
            contexts=tuple(Context(index, text) for index, text in enumerate(texts)),
        )

    @cached_property
    def corpus_texts(self) -> Collection[str]:
        """The texts to adapt on: those of `data.corpus`, or the contexts of `data.train` if no corpus is set.

        With `data.drop_duplicates`, near duplicates of validation and test texts are removed. Raises UserError if no
        text is left.
        """
        settings = self._settings
        if settings.corpus is not None:
            path = user_path(settings.corpus)
            texts = self._once(("corpus", path), lambda: read_texts(path))
            if not settings.drop_duplicates:
                return texts
            held_out = [*(self.validation or ()), *(self.test or ())]
            return _rest(texts, near(texts, _passages(held_out)), "data.corpus")
        if not settings.drop_duplicates:
            return distinct_texts(self.train)
        # Unlike the training examples, the corpus also excludes near duplicates of dropped validation texts.
        is_twin = self._is_train_twin | self._is_twin_of_dropped
        return distinct_texts(_rest(self.train, is_twin, "data.train"))

    @cached_property
    def test_overlaps(self) -> list[Overlap]:
        """Overlaps of the whole test set with the training file (labelled or not) and with `data.corpus`.

        There are none if `data.drop_duplicates` is set, because the near duplicates are already removed.
        """
        if self._settings.drop_duplicates:
            return []
        sides: dict[str, Collection[str]] = {"train": distinct_texts(self.train), "test": _passages(self.test or ())}
        if self._settings.corpus is not None:
            sides["corpus"] = self.corpus_texts
        return overlaps(sides)

    @cached_property
    def _is_validation_twin(self) -> BoolArray:
        """bool [validation examples]: True for near duplicates of test examples."""
        return near(_passages(self.validation or ()), _passages(self.test or ()))

    @cached_property
    def _is_train_twin(self) -> BoolArray:
        """bool [training examples]: True for near duplicates of test examples or of kept validation examples."""
        kept = _selected(self.validation or (), ~self._is_validation_twin)
        return near(_passages(self.train), _passages([*kept, *(self.test or ())]))

    @cached_property
    def _is_twin_of_dropped(self) -> BoolArray:
        """bool [training examples]: True for near duplicates of dropped validation examples."""
        dropped = _selected(self.validation or (), self._is_validation_twin)
        return near(_passages(self.train), _passages(dropped))


def load_corpus_texts(settings: DataSettings) -> Collection[str]:
    """Return the texts to adapt on (`LoadedData.corpus_texts`). Raises UserError if no text is left."""
    return LoadedData(settings).corpus_texts


def without_samples(settings: DataSettings) -> DataSettings:
    """Return a copy of the settings in which those of `SAMPLES` are None."""
    return DataSettings.model_construct(**{**dict(settings), **SAMPLES})


def _passages(examples: Iterable[Example]) -> list[str]:
    return [example.passage for example in examples]


def _selected(items: Collection[Item], is_kept: BoolArray) -> list[Item]:
    return [one for one, kept in zip(items, is_kept, strict=True) if kept]


def _rest(items: Collection[Item], is_twin: BoolArray, name: str) -> list[Item]:
    """Return the items for which `is_twin` is False. Raises UserError if no item is left; `name` is their setting."""
    rest = _selected(items, ~is_twin)
    if not rest:
        raise UserError(
            f"data.drop_duplicates: every text of {name} is a near duplicate of a validation or test text. "
            "Give other files or set data.drop_duplicates to false."
        )
    return rest
