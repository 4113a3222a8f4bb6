"""Encoded examples: rows (model inputs) held without padding, and batches of them.

Shape letters of this folder: F rows (model inputs) of a task, B rows of a batch, T tokens of a row (padded),
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

from nmg.types import IGNORED_LABEL, IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    token_targets: Mapping[str, TokenColumn] = field(default_factory=dict, kw_only=True)
    """model input with one integer a token, `IGNORED_LABEL` where there is nothing to learn: `labels` of words"""

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
        """Inputs and targets of the given rows; targets are int64 [B], or [B, T] where they have one a token.

        >>> features.batch(np.array([4, 0]))
        {'input_ids': tensor([[101, 2748, 102, 0], [101, 2053, 999, 102]]),
         'attention_mask': tensor([[1, 1, 1, 0], [1, 1, 1, 1]]), 'labels': tensor([1, 0])}
        """
        targets = {name: torch.from_numpy(values[rows].astype(np.int64)) for name, values in self.targets.items()}
        return self.inputs(rows) | targets | self._padded(self.token_targets, rows)

    def loss_terms(self, batch: Mapping[str, Tensor]) -> Tensor:
        """int64 [B] how many terms each row of a `batch` adds to the mean that a model's loss is.

        One for each row, or one for each labelled token. Parts of a batch add up to its loss by these numbers.
        """
        name = next(iter((*self.targets, *self.token_targets)))
        is_term: Tensor = batch[name] != IGNORED_LABEL
        return is_term.view(len(is_term), -1).sum(dim=1)

    def inputs(self, rows: IntArray) -> dict[str, Tensor]:
        """Model inputs of the given rows, int64 [B, T] padded on the right to the longest of them; no targets."""
        is_token = np.arange(self.lengths[rows].max()) < self.lengths[rows, None]
        return self._padded(self.tokens, rows) | {"attention_mask": torch.from_numpy(is_token.astype(np.int64))}

    def _padded(self, tokens: Mapping[str, TokenColumn], rows: IntArray) -> dict[str, Tensor]:
        columns = np.arange(self.lengths[rows].max())
        is_token = columns < self.lengths[rows, None]
        index = np.where(is_token, self._starts[rows, None] + columns, 0)
        padded = {name: np.where(is_token, column.values[index], column.padding) for name, column in tokens.items()}
        return {name: torch.from_numpy(values.astype(np.int64)) for name, values in padded.items()}


@dataclass
class RowBuilder:
    """Collects the token ids of rows, as `TaskFeatures` holds them."""

    tokenizer: "PreTrainedTokenizerBase"
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
