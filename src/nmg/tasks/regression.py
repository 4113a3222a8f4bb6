"""Regression: a number for each text, or for each pair of texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from nmg.base.errors import UserError, bad_input
from nmg.base.settings import DataSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example, FloatArray
from nmg.data.formats.hub import HUB
from nmg.data.formats.labelled_texts import TextFields
from nmg.data.formats.regression import RegressionExample, read_regression, write_regression
from nmg.data.framing import vocabulary_size
from nmg.tasks.base import Evaluation, Format, TaskKind, only
from nmg.tasks.rows import TaskFeatures
from nmg.tasks.texts import PRIOR_TEXTS, TextTask, encode_texts, token_sets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RegressionTask(TextTask):
    """Predicts a number. The model learns (number − mean) / standard deviation, both of the training examples."""

    default_metric = "pearson"
    reward_metrics: tuple[str, ...] = ()
    table_metrics: tuple[str, ...] = ("pearson", "spearman", "loss")
    problem_type = "regression"

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", numbers: FloatArray, settings: FinetuneSettings) -> None:
        if not np.ptp(numbers) > 0:
            raise UserError("regression needs training examples with at least two different numbers")
        super().__init__(tokenizer, ["number"], settings)
        self.mean, self.deviation = float(np.mean(numbers)), float(np.std(numbers))
        """Mean and standard deviation of the numbers of the training examples."""

    def encode(self, examples: Sequence[Example]) -> TaskFeatures:
        """Encode one row per example, truncated to `max_length`. The targets are standardised."""
        chosen = only(RegressionExample, examples)
        return encode_texts(
            self._tokenizer, chosen, self._max_length, (numbers_of(chosen) - self.mean) / self.deviation
        )

    def evaluate(
        self, outputs: Mapping[str, Tensor], features: TaskFeatures, examples: Sequence[Example]
    ) -> Evaluation:
        """Score the outputs.

        Args:
            outputs: `logits`, float32 [F, 1] on the CPU, in row order: predicted standardised numbers.
            features: The encoding of `examples`.
            examples: The examples to score.

        Returns:
            The scores and predictions. `loss` is the mean squared error of the standardised numbers: 1 is the error of
            the training mean. Both correlations are 0 if all predictions, or all gold numbers, are equal.
            `example_scores` has `loss`.
        """
        predicted = outputs["logits"][:, 0].double().numpy()
        gold = np.asarray(features.targets["labels"], dtype=np.float64)
        loss = np.square(predicted - gold)
        numbers = predicted * self.deviation + self.mean
        return Evaluation(
            scores={
                "pearson": pearson(gold, predicted),
                "spearman": spearman(gold, predicted),
                "loss": float(loss.mean()),
            },
            example_scores={"loss": loss},
            predictions={e.id: f"{number:.6g}" for e, number in zip(examples, numbers, strict=True)},
        )


def pearson(first: FloatArray, second: FloatArray) -> float:
    """Return Pearson's correlation of two series, float [N]; 0 if one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    x, y = first - first.mean(), second - second.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # squares of tiny numbers would be 0
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def spearman(first: FloatArray, second: FloatArray) -> float:
    """Return Spearman's correlation, with average ranks for equal values; 0 if a series is constant."""
    from scipy.stats import rankdata  # takes a second to import

    return pearson(rankdata(first), rankdata(second))


def numbers_of(examples: Sequence[Example]) -> FloatArray:
    """Return the numbers of the examples, float64 [E]."""
    return np.array([example.number for example in only(RegressionExample, examples)], dtype=np.float64)


def token_relevance(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[RegressionExample]) -> FloatArray:
    """Return float [V]: KL divergence (nats) of the numbers of texts with a token from the numbers of all texts.

    Both distributions are assumed to be normal with the variance of all numbers. The divergence is then half the
    squared difference of their means, in standard deviations. Each token counts once per text. `PRIOR_TEXTS` texts with
    the average number are added.
    """
    numbers = numbers_of(examples)
    standardised = (numbers - numbers.mean()) / (numbers.std() or 1.0)
    sums = np.zeros(vocabulary_size(tokenizer))
    counts = np.zeros_like(sums)
    for number, ids in zip(standardised, token_sets(tokenizer, examples), strict=True):
        sums[ids] += number
        counts[ids] += 1
    relevance: FloatArray = np.square(sums / (counts + PRIOR_TEXTS)) / 2
    return relevance


def _fields(settings: DataSettings) -> TextFields:
    return TextFields(settings.text_field, settings.label_field, settings.pair_field)


def _read(path: Path, settings: DataSettings, _train: Sequence[Example] | None) -> Sequence[Example]:
    return read_regression(path, _fields(settings))


def _check_train(examples: Sequence[Example], settings: DataSettings) -> None:
    numbers = numbers_of(examples)
    if not np.ptp(numbers) > 0:
        problem = f"the task {settings.task} needs at least two different numbers, but all examples have {numbers[0]:g}"
        raise bad_input(str(settings.train), problem, field=settings.label_field)


def _describe(examples: Sequence[RegressionExample]) -> list[tuple[str, str]]:
    numbers, first = numbers_of(examples), examples[0]
    texts = first.text if first.pair is None else f"{first.text}\n+ {first.pair}"
    return [
        ("numbers", f"{numbers.min():g} to {numbers.max():g}, mean {numbers.mean():.4g}, std {numbers.std():.4g}"),
        ("sample", f"{texts}\n= {first.number:g}"),
    ]


# A whole number may also be a class, so files of numbers belong to this task only if it is named.
_TABLE = Format(
    "texts with numbers", _read, lambda rows, path, it: write_regression(rows, path, _fields(it)), needs_task=True
)
_ROWS = Format("texts with numbers", _read, needs_task=True)
REGRESSION = TaskKind(
    name="regression",
    formats={".jsonl": _TABLE, ".json": _ROWS, ".csv": _TABLE, ".tsv": _TABLE, ".parquet": _ROWS, HUB: _ROWS},
    formats_text=".jsonl, .json, .csv, .tsv or .parquet",
    owns=lambda _record: False,
    check_train=_check_train,
    label_of=lambda _example: None,
    few_labels="labelled_examples",
    few_labels_text="",
    build=lambda tokenizer, examples, settings: RegressionTask(tokenizer, numbers_of(examples), settings),
    relevance=token_relevance,
    describe=_describe,
    loss_unit="squared standard deviations",
)
"""Texts or pairs of texts with a number, in tables or JSON."""
