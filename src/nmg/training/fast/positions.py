"""Drops positions as soon as no other position needs them.

In its last layer, an encoder mixes positions for the last time. A loss that reads only a few positions (the masked
ones, or the first) needs the keys and values of all positions. Other values are needed only where it reads. This saves
two fifths of the encoder's work in a model of two layers, and 7 % in one of twelve layers. It also avoids vocabulary
logits at positions without a label.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from nmg.training.fast.model_types import BERT_LIKE
from nmg.training.fast.shapes import ENTRIES, MASKED, rounded_up

_PLAIN_ATTENTION = {"sdpa", "eager"}
"""Attention implementations of transformers that accept a mask tensor [B, 1, 1 or T, T] or None."""


@dataclass(frozen=True)
class Places:
    """Up to K positions of each row of a batch."""

    columns: Tensor
    """int64 [B, K]: chosen positions of each row, padded with 0."""
    kept: tuple[Tensor, Tensor] | None = None
    """int64 [M] rows and int64 [M] columns of the entries of `columns` that are not padding.

    None if there is no padding.
    """

    @classmethod
    def first(cls, n_rows: int, device: torch.device) -> "Places":
        """Select position 0 of each row."""
        return cls(torch.zeros(n_rows, 1, dtype=torch.int64, device=device))

    @classmethod
    def where(cls, is_chosen: Tensor) -> "Places":
        """Select the M true entries of bool [B, T] in row-major order.

        `is_chosen` must be on the CPU, so that no GPU synchronisation is needed.
        """
        rows, columns = is_chosen.nonzero(as_tuple=True)
        counts = is_chosen.sum(dim=1)
        nth = torch.arange(len(rows), device=rows.device) - (counts.cumsum(dim=0) - counts)[rows]
        table = columns.new_zeros(len(counts), max(int(counts.max()), 1))
        table[rows, nth] = columns
        return cls(table, (rows, nth))

    def rounded(self) -> "Places":
        """Return a copy with K and M rounded up (see `fast.shapes`). Additional entries repeat the first position."""
        if self.kept is None or not len(self.kept[0]):
            return self
        (rows, nth), n_columns = self.kept, self.columns.shape[1]
        columns = F.pad(self.columns, (0, rounded_up(n_columns, ENTRIES) - n_columns))
        more = (0, rounded_up(len(rows), MASKED) - len(rows))
        return Places(columns, (F.pad(rows, more), F.pad(nth, more)))

    def sent(self, send: Callable[[Tensor], Tensor]) -> "Places":
        """Return a copy whose tensors are moved by `send`."""
        kept = None if self.kept is None else (send(self.kept[0]), send(self.kept[1]))
        return Places(send(self.columns), kept)

    def of(self, states: Tensor) -> Tensor:
        """Gather the chosen states: [B, T, H] → [B, K, H]."""
        return states.gather(1, self.columns.unsqueeze(2).expand(-1, -1, states.shape[2]))

    def without_filling(self, states: Tensor) -> Tensor:
        """Remove padding entries: [B, K, H] → [1, M, H]. The input is returned unchanged if there is no padding."""
        return states if self.kept is None else states[self.kept].unsqueeze(0)


@contextmanager
def restrict_to_positions(model: PreTrainedModel, places: Places, *, is_packed: bool = False) -> Iterator[None]:
    """Restrict the encoder's output [B, T, H] to the states at `places` within the context.

    The shape is that of `Places.without_filling`. For known architectures, other positions are dropped within the last
    layer, otherwise after the base model. The chosen positions have the same values and gradients in both cases.

    Args:
        model: The model to restrict.
        places: The positions to keep.
        is_packed: Whether the batch is one packed row (see `fast.packing`).
    """
    attention = last_attention(model)
    if attention is None:
        with _hook(model.base_model.register_forward_hook, partial(_select_states, places)):
            yield
    elif is_packed or model.config._attn_implementation not in _PLAIN_ATTENTION:
        with _hook(attention.output.register_forward_pre_hook, partial(_select_both, places)):
            yield
    else:
        with (
            _forward(attention.self, partial(_attend, attention.self, places)),
            _hook(attention.output.register_forward_pre_hook, partial(_select_residual, places)),
        ):
            yield


@contextmanager
def given_states(model: PreTrainedModel, states: Tensor) -> Iterator[None]:
    """Make the encoder of `model` return `states` [1, M, H] for any input within the context, so only the head runs."""
    with _forward(model.base_model, lambda *_, **__: BaseModelOutput(last_hidden_state=states)):
        yield


@contextmanager
def states_the_head_reads(task_model: PreTrainedModel, n_rows: int) -> Iterator[None]:
    """Skip states that the head of a task model does not read, within the context.

    Sequence classifiers read only the first position.
    """
    reads_first = type(task_model).__name__.endswith("ForSequenceClassification")
    if not reads_first or last_attention(task_model) is None:
        yield
        return
    with restrict_to_positions(task_model, Places.first(n_rows, task_model.device)):
        yield


def last_attention(model: PreTrainedModel) -> Any:
    """Return the attention module of the last layer, or None if its position-wise part cannot be restricted.

    The module has the parts `self` and `output` as in BERT, and the encoder is position-wise after it. The result is
    None for architectures not known to be of this kind. It is also None if the backward pass would run the unmodified
    layer again.
    """
    config = model.config
    if config.model_type not in BERT_LIKE or config.is_decoder or getattr(config, "add_cross_attention", False):
        return None
    encoder = model.base_model.encoder
    last = encoder.layer[-1]
    is_run_again = model.training and (
        getattr(last, "gradient_checkpointing", False) or getattr(encoder, "gradient_checkpointing", False)
    )
    return None if is_run_again else last.attention


def _attend(
    attention: Any, places: Places, states: Tensor, attention_mask: Tensor | None = None, **_others: Any
) -> tuple[Tensor, None]:
    """Compute `BertSelfAttention` of the states [B, T, H] for queries at `places` only.

    Args:
        attention: A `BertSelfAttention`, or a module with the same projections.
        places: K positions of each row.
        states: Float [B, T, H].
        attention_mask: [B, 1, 1 or T, T], as for `F.scaled_dot_product_attention`; None hides no position.

    Returns:
        Float [B, K, H], and None instead of attention weights.
    """

    def heads(values: Tensor) -> Tensor:
        """Split the last dimension into heads: [B, T, H] → [B, heads, T, H / heads]."""
        return values.view(*values.shape[:2], attention.num_attention_heads, -1).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        heads(attention.query(places.of(states))),
        heads(attention.key(states)),
        heads(attention.value(states)),
        # All queries of a row attend to the same positions.
        None if attention_mask is None else attention_mask[:, :, :1],
        attention.dropout.p if attention.training else 0.0,
    )
    return mixed.transpose(1, 2).flatten(2), None


def _select_residual(places: Places, _module: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Select the inputs of the attention output module, without padding.

    The first input is already restricted to `places`; the second contains the states of all positions.
    """
    mixed, states = inputs
    return places.without_filling(mixed), places.without_filling(places.of(states))


def _select_both(places: Places, module: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Select both inputs of the attention output module at `places`, without padding."""
    mixed, states = inputs
    return _select_residual(places, module, (places.of(mixed), states))


def _select_states(places: Places, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    """Return an encoder's output with its last hidden states only at `places`, without padding (a forward hook)."""
    if isinstance(output, tuple):
        return (places.without_filling(places.of(output[0])), *output[1:])
    output["last_hidden_state"] = places.without_filling(places.of(output["last_hidden_state"]))
    return output


@contextmanager
def _hook(register: Callable[..., RemovableHandle], hook: Callable[..., Any]) -> Iterator[None]:
    """Register `hook` within the context."""
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Make `module` compute `forward` within the context instead of its own or a previously patched forward method."""
    patched = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if patched is not None:
            module.forward = patched
