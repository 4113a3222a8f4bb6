"""What generic code knows of a task: examples become rows, rows become batches, outputs become scores.

Shape letters of this folder: F rows (model inputs) of a task, B rows of a batch, T tokens of a row (padded),
E examples, C classes.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from nmg.config import FinetuneSettings
from nmg.errors import UserError
from nmg.types import ClassificationExample, Example, FloatArray, IntArray, QAExample

AnyExample = TypeVar("AnyExample", ClassificationExample, QAExample)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a task model. All are shares from 0 to 1, but `loss`; tables show them times 100."""

    scores: Mapping[str, float]
    """metric name → score; for every metric more is better, except `loss`, which is always there"""
    example_scores: Mapping[str, FloatArray]
    """metric name → [E], where the metric is a mean over examples"""
    predictions: Mapping[str, str]
    """id of the example → predicted label or answer"""


class TokenColumn(NamedTuple):
    """One integer for each token of each row, the rows one after another."""

    values: npt.NDArray[np.int32]
    """[sum of lengths]"""
    padding: int
    """fills a batch behind a row's length"""


@dataclass(frozen=True)
class TaskFeatures:
    """The rows (model inputs) of encoded examples, held without padding."""

    lengths: IntArray
    """[F] tokens of each row, special tokens included"""
    example_index: IntArray
    """[F] row → index of its example, non-decreasing"""
    tokens: Mapping[str, TokenColumn]
    """model input with one integer a token: `input_ids`, and `token_type_ids` where the model knows them"""
    targets: Mapping[str, IntArray]
    """model input with one integer a row, [F]: `labels`, or `start_positions` and `end_positions`"""

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def _starts(self) -> IntArray:
        """[F]: where each row begins in the columns."""
        return np.cumsum(self.lengths) - self.lengths

    def distinct_ids(self, rows: IntArray) -> IntArray:
        """The token ids of the given rows, each once, and that of padding."""
        column = self.tokens["input_ids"]
        is_chosen = np.isin(np.repeat(np.arange(len(self)), self.lengths), rows)
        ids: IntArray = np.union1d(column.values[is_chosen], [column.padding]).astype(np.int64)
        return ids

    def batch(self, rows: IntArray) -> dict[str, Tensor]:
        """Model inputs of the given rows, int64 [B, T] padded on the right to the longest of them; targets int64 [B].

        >>> features.batch(np.array([4, 0]))
        {'input_ids': tensor([[101, 2748, 102, 0], [101, 2053, 999, 102]]),
         'attention_mask': tensor([[1, 1, 1, 0], [1, 1, 1, 1]]), 'labels': tensor([1, 0])}
        """
        columns = np.arange(self.lengths[rows].max())
        is_token = columns < self.lengths[rows, None]
        index = np.where(is_token, self._starts[rows, None] + columns, 0)
        inputs = {
            name: np.where(is_token, column.values[index], column.padding) for name, column in self.tokens.items()
        }
        inputs["attention_mask"] = is_token
        inputs |= {name: values[rows] for name, values in self.targets.items()}
        return {name: torch.from_numpy(values.astype(np.int64)) for name, values in inputs.items()}


@dataclass
class RowBuilder:
    """Collects the token ids of rows, as `TaskFeatures` holds them."""

    tokenizer: PreTrainedTokenizerBase
    _input_ids: list[Sequence[int]] = field(default_factory=list)
    _token_types: list[Sequence[int]] = field(default_factory=list)

    def add(self, input_ids: Sequence[int], token_types: Sequence[int]) -> None:
        self._input_ids.append(input_ids)
        self._token_types.append(token_types)

    @property
    def lengths(self) -> IntArray:
        return np.array([len(row) for row in self._input_ids], dtype=np.int64)

    @property
    def tokens(self) -> dict[str, TokenColumn]:
        """`input_ids`, and `token_type_ids` if the tokenizer says that its model takes them."""
        # Without a padding token any id will do: the attention mask hides it.
        columns = {"input_ids": _column(self._input_ids, self.tokenizer.pad_token_id or 0)}
        if "token_type_ids" in self.tokenizer.model_input_names:
            columns["token_type_ids"] = _column(self._token_types, self.tokenizer.pad_token_type_id)
        return columns


def _column(rows: Iterable[Sequence[int]], padding: int) -> TokenColumn:
    return TokenColumn(np.fromiter(chain.from_iterable(rows), dtype=np.int32), padding)


class Task(Protocol):
    """A way to use an encoder: how examples become model inputs, which model takes them, what its outputs score."""

    name: str
    default_metric: str
    """the score that players are compared by"""
    table_metrics: tuple[str, ...]
    """the scores that tables show, the most telling first"""

    def encode(self, examples: Sequence[Example]) -> TaskFeatures:
        """Every example has at least one row; rows keep the examples' order. UserError for an example that cannot be
        encoded."""
        ...

    def new_model(self, config: PreTrainedConfig) -> PreTrainedModel:
        """A float32 model of transformers' own class for the encoder `config` describes (which stays as it is);
        every weight is drawn from torch's generator."""
        ...

    def evaluate(
        self, outputs: Mapping[str, Tensor], features: TaskFeatures, examples: Sequence[Example]
    ) -> Evaluation:
        """Scores of the outputs for all rows of `features`, the encoding of `examples`, in row order.

        `outputs`: float32 on the CPU, `logits` [F, C], or `start_logits` and `end_logits` [F, T] with −inf behind each
        row's length.
        """
        ...


def build_task(
    name: str, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], settings: FinetuneSettings
) -> Task:
    """The task of that name. The labels of a classification are those of `examples` (the training set), sorted.

    Raises UserError for an unknown name, settings that leave no room, and examples with fewer than two labels.
    """
    from nmg.tasks.classification import ClassificationTask
    from nmg.tasks.qa import QuestionAnsweringTask

    if name == ClassificationTask.name:
        labels = sorted({example.label for example in only(ClassificationExample, examples)})
        return ClassificationTask(tokenizer, labels, settings)
    if name == QuestionAnsweringTask.name:
        only(QAExample, examples)
        return QuestionAnsweringTask(tokenizer, settings)
    raise UserError(f"there is no task '{name}' (known: {ClassificationTask.name}, {QuestionAnsweringTask.name})")


def only(kind: type[AnyExample], examples: Sequence[Example]) -> list[AnyExample]:
    """`examples` as a list of `kind`; TypeError if one is of another kind."""
    chosen = [example for example in examples if isinstance(example, kind)]
    if len(chosen) != len(examples):
        raise TypeError(f"expected only {kind.__name__}")
    return chosen


def model_with_head(auto_class: Any, config: PreTrainedConfig, **changes: Any) -> PreTrainedModel:
    """A new float32 model of `auto_class` (of transformers) for a copy of `config` with `changes` made."""
    config = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(config, name, value)
    try:
        # Mixed precision keeps its weights in float32, whatever the checkpoint was stored in.
        return auto_class.from_config(config, dtype=torch.float32)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        raise UserError(
            f"a model of type '{config.model_type}' cannot do this task (no {auto_class.__name__})"
        ) from error
