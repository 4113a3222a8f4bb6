"""Records that cross module borders.

Shape letters, used everywhere: B blocks of a batch, T tokens of a block (padded), K masked positions of a block
(padded), N transitions, H hidden size, V vocabulary size. A boolean's name says what True means.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

NO_POSITION = -1
"""Fills `MaskPlan.positions` behind a block's budget, and `TokenBlocks.word_index` where there is no word."""

IGNORED_LABEL = -100
"""Label of a position without loss (the convention of transformers and of `torch.nn.functional.cross_entropy`)."""


@dataclass(frozen=True)
class Context:
    """A text of the corpus. `id` is its index in the corpus, the key by which task examples find it."""

    id: int
    text: str


class Example(Protocol):
    """What generic code knows of a labelled example; each task has a record of its own."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str: ...

    @property
    def context_id(self) -> int:
        """The text of the corpus that it belongs to; -1 where it belongs to none."""
        ...

    @property
    def passage(self) -> str:
        """That text."""
        ...


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

    def rows(self, index: Tensor) -> "TokenBlocks":
        """Some of the blocks, for `index` int64 [rows]; the padding stays."""
        return TokenBlocks(**{name: tensor[index] for name, tensor in vars(self).items()})

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

    def __getitem__(self, rows: slice) -> "CorruptedBlocks":
        return CorruptedBlocks(self.input_ids[rows], self.is_token[rows], self.labels[rows])


class StateEncoder(Protocol):
    """The language model as it is at the time of a call, read without dropout or gradient."""

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        """Last hidden states on the unmasked blocks, float32 [B, T, H], on the model's device."""
        ...

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        """How hard each maskable token is to predict while it is hidden: float32 [B, T, 2], 0 elsewhere.

        The masked-LM loss at the token, and the entropy of the LM's prediction, in nats.
        """
        ...


@dataclass(frozen=True)
class Episode:
    """What every player of one episode sees alike."""

    index: int
    """from 0"""
    block_ids: IntArray
    """blocks of the sampled contexts, in corpus order"""
    row_ids: IntArray
    """rows of the encoded training examples to fine-tune on, sorted: of examples of the sampled contexts"""


PHASES = ("masks", "inner loops", "update")
"""Phases of an episode, one after another: states of the contexts and mask plans, inner loops, learning."""
INNER_PHASES = ("adapt", "finetune", "evaluate")
"""Phases of an inner loop."""


@dataclass(frozen=True)
class Outcome:
    """What an inner loop (adapt, fine-tune, score) returns."""

    scores: Mapping[str, float]
    """metric name → score on the examples held out; for every metric more is better, except `loss`"""
    example_scores: Mapping[str, FloatArray]
    """metric name → one score per example, where the metric is a mean over examples"""
    lm_loss: float
    """mean masked-LM loss over the last epoch of the adaptation; NaN without adaptation"""
    lm_steps: int = 0
    task_steps: int = 0
    masked_tokens: int = 0
    """masked positions trained on, over all epochs"""
    tokens: int = 0
    """tokens read in the adaptation, special tokens included, padding not"""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """seconds of each of `INNER_PHASES`"""

    def score(self, metric: str) -> float:
        """The score of a metric, more being better."""
        return -self.scores[metric] if metric == "loss" else self.scores[metric]
