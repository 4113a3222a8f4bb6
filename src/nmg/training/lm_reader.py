"""Reads a masked language model for maskings that depend on it: hidden states, and how hard tokens are to predict."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nmg.base.types import TokenBlocks
from nmg.training.lm import encoder_states, logits_in_parts
from nmg.training.memory import in_passes
from nmg.training.runtime import send

HIDDEN_AT_ONCE = 7
"""Distance between the positions that one pass masks to measure how hard tokens are to predict (a rate of 1/7)."""


class Passes(Protocol):
    """Batch size and precision of forward passes. `Runtime` implements it."""

    @property
    def evaluation_batch_size(self) -> int: ...

    def autocast(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class PlainPasses:
    """Forward passes in the precision of the model's weights."""

    evaluation_batch_size: int = 64

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class LMReader:
    """A `types.StateEncoder` that reads `model` in its current state at each call."""

    model: PreTrainedModel
    mask_id: int
    runtime: Passes

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        """Return the last hidden states, float32 [B, T, H]."""

        def read(part: TokenBlocks) -> Tensor:
            with self.runtime.autocast():
                return encoder_states(self.model, part)

        return self._in_parts(blocks, read)

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        """Return the loss and entropy (nats) of each maskable token while it is masked, float32 [B, T, 2]."""
        return self._in_parts(blocks, self._surprise)

    @torch.no_grad()
    def _surprise(self, blocks: TokenBlocks) -> Tensor:
        """Compute `surprise` for blocks that fit into one pass."""
        ids, is_token, is_maskable = (t.cpu() for t in (blocks.input_ids, blocks.is_token, blocks.is_maskable))
        device, place = self.model.device, torch.arange(ids.shape[1])
        found = torch.zeros(*ids.shape, 2, device=device)
        was_training = self.model.training
        self.model.eval()
        for shift in range(HIDDEN_AT_ONCE):
            is_hidden = is_maskable & (place % HIDDEN_AT_ONCE == shift)
            if not bool(is_hidden.any()):
                continue
            words, read = send(ids[is_hidden], device), []
            with self.runtime.autocast():
                hidden = ids.masked_fill(is_hidden, self.mask_id)
                for part, logits in logits_in_parts(self.model, hidden, is_token, is_hidden):
                    read.append(_loss_and_entropy(logits.float(), words[part]))
            found[send(is_hidden, device)] = torch.cat(read)
        self.model.train(was_training)
        return found

    def _in_parts(self, blocks: TokenBlocks, read: Callable[[TokenBlocks], Tensor]) -> Tensor:
        """Apply `read` to groups of blocks, each cut to its longest block, and join the results."""
        lengths = blocks.is_token.sum(dim=1)

        def read_part(rows: slice) -> Tensor:
            longest = int(lengths[rows].max())
            columns = {name: tensor[rows] for name, tensor in vars(blocks).items()}
            return read(type(blocks)(**{n: c[:, :longest] if c.ndim > 1 else c for n, c in columns.items()}))

        whole: Tensor | None = None
        if not len(blocks):
            return read(blocks)
        for rows, part in in_passes(len(blocks), self.runtime.evaluation_batch_size, read_part):
            if whole is None:
                whole = part.new_zeros(*blocks.input_ids.shape, part.shape[2])
            whole[rows, : part.shape[1]] = part
        assert whole is not None, "there is at least one block"
        return whole


def _loss_and_entropy(logits: Tensor, words: Tensor) -> Tensor:
    """Return -ln p(word) and the entropy of p in nats, [m, 2], of logits [m, V] for the hidden `words` [m]."""
    log_probs = logits.log_softmax(dim=1)
    loss = -log_probs.gather(1, words[:, None]).squeeze(1)
    return torch.stack([loss, -(log_probs.exp() * log_probs).sum(dim=1)], dim=1)
