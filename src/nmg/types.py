"""Records that cross module borders.

Shape letters, used everywhere: B blocks of a batch, T tokens of a block (padded), K masked positions of a block
(padded), N transitions, H hidden size, V vocabulary size. A boolean's name says what True means.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]

NO_POSITION = -1
"""Fills `MaskPlan.positions` behind a block's budget, and `TokenBlocks.word_index` where there is no word."""

IGNORED_LABEL = -100
"""Label of a position without loss (the convention of transformers and of `torch.nn.functional.cross_entropy`)."""


@dataclass(frozen=True)
class Context:
    """A text of the corpus. `id` is its index in the corpus, the key by which task examples find it."""

    id: int
    text: str


@dataclass(frozen=True)
class ClassificationExample:
    id: str
    text: str
    label: str
    context_id: int


@dataclass(frozen=True)
class QAExample:
    """A question on a context; `answers` are the accepted answer texts, `answer_starts` their character offsets."""

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]
    context_id: int


Example: TypeAlias = ClassificationExample | QAExample


@dataclass(frozen=True)
class TokenBlocks:
    """A batch of token blocks, padded on the right. All tensors are on the CPU unless moved by `to`.

    A block is `[CLS] tokens [SEP]` (or what the tokenizer uses for these), cut from one context.
    """

    block_ids: Tensor
    """int64 [B]: index of each block in its corpus."""
    context_ids: Tensor
    """int64 [B]: the context (document) each block was cut from."""
    input_ids: Tensor
    """int64 [B, T]"""
    is_token: Tensor
    """bool [B, T]: True at real tokens, special tokens included; False at padding. The attention mask."""
    is_maskable: Tensor
    """bool [B, T]: True at real tokens that are not special; only these may be masked."""
    word_index: Tensor
    """int64 [B, T]: word of the block (from 0, non-decreasing) a token belongs to; -1 at special tokens and padding."""

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def budgets(self, rate: float) -> Tensor:
        """int64 [B]: k = max(1, int(n * rate)) with n the maskable tokens; 0 where there are none."""
        n_maskable = self.is_maskable.sum(dim=1)
        # float64 and a hair more: 0.05 * 20 must be 1, not 0.9999
        wanted = (n_maskable.double() * rate + 1e-9).long().clamp(min=1)
        return torch.minimum(wanted, n_maskable)


@dataclass(frozen=True)
class MaskPlan:
    """Which positions of each block are masked: the contract between policy, corruption, credit and replay.

    Rules and learned policies fill the same record. A plan holds exactly `budget[b]` distinct positions of block b.
    """

    positions: Tensor
    """int64 [B, K]: chosen positions, the first `budget[b]` of row b; -1 behind."""
    budget: Tensor
    """int64 [B]: number of chosen positions."""
    group: Tensor | None = None
    """int64 [B, K]: positions of a block with the same number share one 80/10/10 draw (span masking); -1 behind.
    None: every position draws for itself."""
    log_prob: Tensor | None = None
    """float32 [B, K]: single-draw log-softmax of each chosen position under the policy that chose it; 0 behind."""
    value: Tensor | None = None
    """float32 [B]: the value network's estimate for the block."""

    @property
    def is_chosen(self) -> Tensor:
        """bool [B, K]: True where `positions` holds a position."""
        return self.positions != NO_POSITION

    def is_masked(self, n_tokens: int) -> Tensor:
        """bool [B, T]: True at the chosen positions, for T = `n_tokens`."""
        n_blocks = self.positions.shape[0]
        # One column more takes the padding entries, then is cut off.
        flags = torch.zeros(n_blocks, n_tokens + 1, dtype=torch.bool, device=self.positions.device)
        columns = torch.where(self.is_chosen, self.positions, n_tokens)
        return flags.scatter_(1, columns, True)[:, :n_tokens]


@dataclass(frozen=True)
class CorruptedBlocks:
    """Blocks after corruption, ready for the masked-LM loss."""

    input_ids: Tensor
    """int64 [B, T]: some chosen positions replaced."""
    is_token: Tensor
    """bool [B, T]"""
    labels: Tensor
    """int64 [B, T]: the original token at every chosen position, -100 elsewhere."""


StateEncoder: TypeAlias = Callable[[TokenBlocks], Tensor]
"""Last hidden states [B, T, H] of the current LM on unmasked blocks, without gradient."""


@dataclass(frozen=True)
class Episode:
    """What every player of one episode sees alike."""

    index: int
    """from 0"""
    block_ids: IntArray
    """blocks of the sampled contexts, in corpus order"""
    example_ids: IntArray
    """indices into the training examples: examples of the sampled contexts"""


PHASES = ("encode", "masks", "inner loops", "update")
"""Phases of an episode, one after another: states of the contexts, mask plans, the players' inner loops, learning."""
INNER_PHASES = ("adapt", "finetune", "evaluate")
"""Phases of an inner loop."""


@dataclass(frozen=True)
class Outcome:
    """What a player's inner loop (adapt, fine-tune, score) returns."""

    scores: Mapping[str, float]
    """metric name → score on the validation set; for every metric more is better, except `loss`"""
    example_scores: Mapping[str, FloatArray]
    """metric name → one score per validation example, where the metric is a mean over examples"""
    lm_loss: float
    """mean masked-LM loss over the last epoch of the adaptation; NaN without adaptation"""
    lm_steps: int = 0
    task_steps: int = 0
    masked_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    """seconds of each of `INNER_PHASES`"""
