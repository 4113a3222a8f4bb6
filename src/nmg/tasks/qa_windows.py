"""Windows of contexts in question answering: where answers are in them, and the scores of their positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nmg.base.types import BoolArray, FloatArray, IntArray
from nmg.data.formats.questions import QAExample
from nmg.tasks.rows import TaskFeatures


@dataclass(frozen=True)
class QAFeatures(TaskFeatures):
    """Windows, with the mapping from their columns to characters of the context."""

    context_columns: IntArray
    """int64 [F, 2]: first column of a row that holds context, and the exclusive end."""
    context_start: IntArray
    """int64 [F]: index, among all tokens of the context, of the token in the first column of `context_columns`."""
    is_answer_inside: BoolArray
    """bool [F]: whether the window holds all tokens of the first answer; if not, both targets are the CLS column."""
    cls_columns: IntArray
    """int64 [F]: column of the CLS token; 0 for tokenizers without one."""
    offsets: Sequence[IntArray]
    """For each example, int64 [context tokens, 2]: start and exclusive end of each context token, in characters."""

    def characters(self, row: int, first: int, last: int) -> tuple[int, int]:
        """Map columns of a row to characters of the context.

        Args:
            row: Index of the row.
            first: First column; it must hold a context token.
            last: Last column (inclusive); it must hold a context token.

        Returns:
            Start and exclusive end, in characters.
        """
        offsets = self.offsets[self.example_index[row]]
        shift = self.context_start[row] - self.context_columns[row, 0]
        return int(offsets[first + shift, 0]), int(offsets[last + shift, 1])


def answer_tokens(examples: Sequence[QAExample], offsets: Sequence[IntArray]) -> IntArray:
    """Return int64 [E, 2]: first and last context token that overlap the first answer; −1 without an answer or token.

    Spaces around an answer are ignored, because some tokenizers include the space before a word in its token.
    """
    tokens = np.full((len(examples), 2), -1, dtype=np.int64)
    for index, (example, spans) in enumerate(zip(examples, offsets, strict=True)):
        if not example.answers:
            continue
        answer = example.answers[0].rstrip() or example.answers[0]
        first, end = example.answer_starts[0], example.answer_starts[0] + len(answer)
        first = end - len(answer.lstrip() or answer)
        overlapping = np.flatnonzero((spans[:, 0] < end) & (spans[:, 1] > first))
        if len(overlapping):
            tokens[index] = overlapping[0], overlapping[-1]
    return tokens


def gold_windows(features: QAFeatures) -> IntArray:
    """Return int64 [E]: the first row of each example that holds its whole first answer, or else its first row."""
    order = np.lexsort((~features.is_answer_inside, features.example_index))
    _, firsts = np.unique(features.example_index[order], return_index=True)
    return order[firsts]


def score_index(logits: Tensor, gold: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return accuracy (0 or 1) and loss (nats) of each row in `rows`, both float64 [rows].

    `logits` is float [F, T] and `gold` int64 [F]. Accuracy is 1 if the largest logit is in the gold column.
    """
    log_probs = logits[torch.from_numpy(rows)].double().log_softmax(dim=1).numpy()
    is_right = log_probs.argmax(axis=1) == gold[rows]
    return is_right.astype(np.float64), -log_probs[np.arange(len(rows)), gold[rows]]
