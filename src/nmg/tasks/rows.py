"""Encoded examples: rows (model inputs) stored without padding, and batches of rows.

Shape letters of this package: F rows (model inputs) of a task, B rows of a batch, T tokens of a row (padded),
E examples, C classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmg.base.types import IGNORED_LABEL, FloatArray, IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenColumn(NamedTuple):
    """One integer per token, for all rows, concatenated."""

    values: npt.NDArray[np.int32]
    """int32 [sum of lengths]: the integers of all tokens."""
    padding: int
    """Value that fills a batch after the end of a row."""


@dataclass(frozen=True)
class TaskFeatures:
    """The rows (model inputs) of encoded examples, stored without padding."""

    lengths: IntArray
    """int64 [F]: number of tokens of each row, including special tokens."""
    example_index: IntArray
    """int64 [F]: index of the example of each row, non-decreasing."""
    tokens: Mapping[str, TokenColumn]
    """Model inputs with one integer per token: `input_ids`, and `token_type_ids` if the model uses them."""
    targets: Mapping[str, IntArray | FloatArray]
    """Targets of each row. The dtype and shape define the loss:

    - int64 [F]: a class or a position (`labels`, or `start_positions` and `end_positions`): cross-entropy
    - float64 [F, C]: 1 for each label of the row, otherwise 0: binary cross-entropy, averaged over labels
    - float64 [F]: a number: squared error
    """
    token_targets: Mapping[str, TokenColumn] = field(default_factory=dict, kw_only=True)
    """Targets with one integer per token: `labels` of words; `IGNORED_LABEL` for tokens without a target."""

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def _starts(self) -> IntArray:
        """int64 [F]: index of each row's first token in the columns."""
        return np.cumsum(self.lengths) - self.lengths

    def distinct_ids(self, rows: IntArray) -> IntArray:
        """Return the sorted distinct token ids of the given rows and the padding id, int64 [n]."""
        column = self.tokens["input_ids"]
        is_chosen = np.isin(np.repeat(np.arange(len(self)), self.lengths), rows)
        ids: IntArray = np.union1d(column.values[is_chosen], [column.padding]).astype(np.int64)
        return ids

    def batch(self, rows: IntArray) -> dict[str, Tensor]:
        """Return inputs and targets of the given rows.

        Targets are int64 [B] or float32 [B] or [B, C] (`targets`), or int64 [B, T] for targets per token.

        >>> features.batch(np.array([4, 0]))
        {'input_ids': tensor([[101, 2748, 102, 0], [101, 2053, 999, 102]]),
         'attention_mask': tensor([[1, 1, 1, 0], [1, 1, 1, 1]]), 'labels': tensor([1, 0])}
        """
        targets = {name: _tensor(values[rows]) for name, values in self.targets.items()}
        return self.inputs(rows) | targets | self._padded(self.token_targets, rows)

    def loss_terms(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the number of terms that each row of a `batch` adds to the mean in the model's loss, int64 [B].

        It is 1 per row, or 1 per labelled token. The loss of a batch is the mean of the losses of its parts, weighted
        by their numbers of terms.
        """
        name = next(iter((*self.targets, *self.token_targets)))
        if batch[name].is_floating_point():  # no number means "no target"
            return torch.ones(len(batch[name]), dtype=torch.int64)
        is_term: Tensor = batch[name] != IGNORED_LABEL
        return is_term.view(len(is_term), -1).sum(dim=1)

    def inputs(self, rows: IntArray) -> dict[str, Tensor]:
        """Return the model inputs of the given rows, int64 [B, T], padded on the right to the longest row."""
        is_token = np.arange(self.lengths[rows].max()) < self.lengths[rows, None]
        return self._padded(self.tokens, rows) | {"attention_mask": torch.from_numpy(is_token.astype(np.int64))}

    def _padded(self, tokens: Mapping[str, TokenColumn], rows: IntArray) -> dict[str, Tensor]:
        columns = np.arange(self.lengths[rows].max())
        is_token = columns < self.lengths[rows, None]
        index = np.where(is_token, self._starts[rows, None] + columns, 0)
        padded = {name: np.where(is_token, column.values[index], column.padding) for name, column in tokens.items()}
        return {name: torch.from_numpy(values.astype(np.int64)) for name, values in padded.items()}


def _tensor(targets: IntArray | FloatArray) -> Tensor:
    """Return integers as int64 and other numbers as float32, the dtypes that the losses of models take."""
    is_number = np.issubdtype(targets.dtype, np.floating)
    return torch.from_numpy(targets.astype(np.float32 if is_number else np.int64))


@dataclass
class RowBuilder:
    """Collects the token ids of rows for `TaskFeatures`."""

    tokenizer: "PreTrainedTokenizerBase"
    _input_ids: list[Sequence[int]] = field(default_factory=list)
    _token_types: list[Sequence[int]] = field(default_factory=list)

    def add(self, input_ids: Sequence[int], token_types: Sequence[int]) -> None:
        """Append a row: its token ids and the token type of each token."""
        self._input_ids.append(input_ids)
        self._token_types.append(token_types)

    @property
    def lengths(self) -> IntArray:
        """int64 [F]: number of tokens of each row."""
        return np.array([len(row) for row in self._input_ids], dtype=np.int64)

    @property
    def tokens(self) -> dict[str, TokenColumn]:
        """`input_ids`, and `token_type_ids` if the tokenizer declares them as a model input."""
        # Without a padding token any id works, because the attention mask hides it.
        columns = {"input_ids": _column(self._input_ids, self.tokenizer.pad_token_id or 0)}
        if "token_type_ids" in self.tokenizer.model_input_names:
            columns["token_type_ids"] = _column(self._token_types, self.tokenizer.pad_token_type_id)
        return columns


def _column(rows: Iterable[Sequence[int]], padding: int) -> TokenColumn:
    return TokenColumn(np.fromiter(chain.from_iterable(rows), dtype=np.int32), padding)
