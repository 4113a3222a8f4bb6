"""Records that are shared across modules.

Shape letters, used everywhere: B blocks of a batch, T tokens of a block (padded), K masked positions of a block
(padded), N transitions, H hidden size, V vocabulary size. The name of a boolean says what True means.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

NO_POSITION = -1
"""Padding value of `MaskPlan.positions`, and the `TokenBlocks.word_index` of tokens that belong to no word."""

IGNORED_LABEL = -100
"""Label of a position without loss (the convention of transformers and `torch.nn.functional.cross_entropy`)."""


@dataclass(frozen=True)
class Context:
    """A text of the corpus. `id` is its index in the corpus, which task examples refer to."""

    id: int
    text: str


class Example(Protocol):
    """Attributes of a labelled example that generic code uses. Each task defines its own record."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str: ...

    @property
    def context_id(self) -> int:
        """Index of the corpus text that the example belongs to; -1 if it belongs to no text."""
        ...

    @property
    def passage(self) -> str:
        """The text that the example is about."""
        ...


@dataclass(frozen=True)
class TokenBlocks:
    """A batch of token blocks, padded on the right. All tensors are created on the CPU.

    A block is `[CLS] tokens [SEP]` (or the equivalent special tokens of the tokenizer), cut from one context.
    """

    block_ids: Tensor
    """int64 [B]: index of each block in its corpus."""
    context_ids: Tensor
    """int64 [B]: index of the context (document) that each block was cut from."""
    input_ids: Tensor
    """int64 [B, T]: token ids."""
    is_token: Tensor
    """bool [B, T]: True at real tokens, including special tokens; False at padding. Used as the attention mask."""
    is_maskable: Tensor
    """bool [B, T]: True at real tokens that are not special. Only these tokens may be masked."""
    word_index: Tensor
    """int64 [B, T]: index of each token's word in the block, from 0, non-decreasing; -1 if not maskable."""

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def rows(self, index: Tensor) -> Self:
        """Return the blocks at `index`, int64 [rows]. The padded length is unchanged."""
        return type(self)(**{name: tensor[index] for name, tensor in vars(self).items()})

    def budgets(self, rate: float | Tensor) -> Tensor:
        """Return the number of positions to mask per block, int64 [B], for one rate or a float64 [B] of rates.

        It is max(1, int(n * rate)) for a block of n maskable tokens, and 0 if n is 0.
        """
        n_maskable = self.is_maskable.sum(dim=1)
        # float64 plus a small margin: 0.05 * 20 must be 1, not 0.9999
        wanted = (n_maskable.double() * rate + 1e-9).long().clamp(min=1)
        return torch.minimum(wanted, n_maskable)


@dataclass(frozen=True)
class MaskPlan:
    """The positions to mask in each block, as exchanged by policies, corruption, credit assignment and replay.

    Rules and learned policies return the same record. A plan has exactly `budget[b]` distinct positions of block b.
    """

    positions: Tensor
    """int64 [B, K]: chosen positions in the first `budget[b]` columns of row b; padded with -1."""
    budget: Tensor
    """int64 [B]: number of chosen positions."""
    group: Tensor | None = None
    """int64 [B, K]: positions of a block with the same number share one 80/10/10 draw (span masking); padded with -1.
    None: each position is drawn independently."""
    log_prob: Tensor | None = None
    """float32 [B, K]: log-probability of each chosen position in a single draw from the policy; padded with 0."""

    @property
    def is_chosen(self) -> Tensor:
        """bool [B, K]: True at columns of `positions` that are not padding."""
        return self.positions != NO_POSITION

    def is_masked(self, n_tokens: int) -> Tensor:
        """Return bool [B, T], True at the chosen positions, for T = `n_tokens`."""
        n_blocks = self.positions.shape[0]
        # Padding entries are written to an extra column, which is then removed.
        flags = torch.zeros(n_blocks, n_tokens + 1, dtype=torch.bool, device=self.positions.device)
        columns = torch.where(self.is_chosen, self.positions, n_tokens)
        return flags.scatter_(1, columns, True)[:, :n_tokens]


@dataclass(frozen=True)
class CorruptedBlocks:
    """Blocks after corruption, ready for the masked-LM loss."""

    input_ids: Tensor
    """int64 [B, T]: token ids, some of them replaced at chosen positions."""
    is_token: Tensor
    """bool [B, T]: True at real tokens, False at padding."""
    labels: Tensor
    """int64 [B, T]: the original token id at every chosen position, -100 elsewhere."""

    def __getitem__(self, rows: slice) -> "CorruptedBlocks":
        return CorruptedBlocks(self.input_ids[rows], self.is_token[rows], self.labels[rows])


class StateEncoder(Protocol):
    """Reads the current language model without dropout and without gradients."""

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        """Return the last hidden states on the unmasked blocks, float32 [B, T, H], on the model's device."""
        ...

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        """Return how hard each maskable token is to predict while it is masked: float32 [B, T, 2], 0 elsewhere.

        The last dimension holds the masked-LM loss of the token and the entropy of the LM's prediction, both in nats.
        """
        ...


@dataclass(frozen=True)
class Episode:
    """The data of one episode, the same for all of its players."""

    index: int
    """Episode number, from 0."""
    block_ids: IntArray
    """int64 [n]: blocks of the sampled contexts, in corpus order."""
    row_ids: IntArray
    """int64 [n]: sorted rows of the encoded training examples to fine-tune on. They belong to the sampled contexts."""


PHASES = ("masks", "inner loops", "update")
"""Consecutive phases of an episode: mask plans (with encoding of the contexts), inner loops, learner update."""
INNER_PHASES = ("adapt", "finetune", "evaluate")
"""Consecutive phases of an inner loop."""
