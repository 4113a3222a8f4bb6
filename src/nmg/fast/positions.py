"""Leave positions out as soon as no other position needs them.

In its last layer an encoder mixes positions for the last time: from there on a loss that reads a few of them (the
masked ones; the first one) needs the keys and values of all, and everything else of these few alone. In a model of two
layers that saves two fifths of the encoder's work, in one of twelve layers 7 %; and it saves the vocabulary's logits at
positions without a label.
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

_BERT_LIKE = {"bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie"}
"""Types of models whose last layer adds its residual inside of `attention`, and then is position-wise."""
_PLAIN_ATTENTION = {"sdpa", "eager"}
"""Implementations of attention, transformers' names, that take their mask as a tensor [B, 1, 1 or T, T] or None."""


@dataclass(frozen=True)
class Places:
    """A few positions of each row of a batch: K of them, fewer where rows differ."""

    columns: Tensor
    """int64 [B, K], 0 behind the end of a row's"""
    kept: tuple[Tensor, Tensor] | None = None
    """int64 [M] rows and [M] places among the K of those that are no filling; None where none is"""

    @classmethod
    def first(cls, n_rows: int, device: torch.device) -> "Places":
        """Position 0 of each row."""
        return cls(torch.zeros(n_rows, 1, dtype=torch.int64, device=device))

    @classmethod
    def where(cls, is_chosen: Tensor) -> "Places":
        """Those of bool [B, T] in row-major order, M in all; on the CPU, so that no GPU need be waited for."""
        rows, columns = is_chosen.nonzero(as_tuple=True)
        counts = is_chosen.sum(dim=1)
        nth = torch.arange(len(rows), device=rows.device) - (counts.cumsum(dim=0) - counts)[rows]
        table = columns.new_zeros(len(counts), max(int(counts.max()), 1))
        table[rows, nth] = columns
        return cls(table, (rows, nth))

    def sent(self, send: Callable[[Tensor], Tensor]) -> "Places":
        """The same on another device."""
        kept = None if self.kept is None else (send(self.kept[0]), send(self.kept[1]))
        return Places(send(self.columns), kept)

    def of(self, states: Tensor) -> Tensor:
        """[B, K, H] of states [B, T, H]."""
        return states.gather(1, self.columns.unsqueeze(2).expand(-1, -1, states.shape[2]))

    def without_filling(self, states: Tensor) -> Tensor:
        """[1, M, H] of states [B, K, H]; these themselves where none is filling."""
        return states if self.kept is None else states[self.kept].unsqueeze(0)


@contextmanager
def only_places(model: PreTrainedModel, places: Places, *, is_packed: bool = False) -> Iterator[None]:
    """Inside of it, the encoder gives its states [B, T, H] at `places` alone, as `Places.without_filling` does.

    Others are left out within the last layer where the architecture is known, otherwise behind the base model: the
    chosen positions get the same values and gradients either way. `is_packed`: see `fast.packing`.
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
    """Inside of it, the encoder of `model` gives `states` [1, M, H], whatever its inputs: only the head runs."""
    with _forward(model.base_model, lambda *_, **__: BaseModelOutput(last_hidden_state=states)):
        yield


@contextmanager
def states_the_head_reads(task_model: PreTrainedModel, n_rows: int) -> Iterator[None]:
    """Leave out what the head of a task model does not read: sequence classifiers read the first position alone."""
    reads_first = type(task_model).__name__.endswith("ForSequenceClassification")
    if not reads_first or last_attention(task_model) is None:
        yield
        return
    with only_places(task_model, Places.first(n_rows, task_model.device)):
        yield


def last_attention(model: PreTrainedModel) -> Any:
    """The module behind which the encoder is position-wise, of parts `self` and `output` as in BERT.

    None where the architecture is not known to have one, and where the backward pass would run it again, as it was.
    """
    config = model.config
    if config.model_type not in _BERT_LIKE or config.is_decoder or getattr(config, "add_cross_attention", False):
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
    """What `BertSelfAttention` gives, of the states [B, T, H], for queries at `places` alone: [B, K, H]."""

    def heads(values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], attention.num_attention_heads, -1).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        heads(attention.query(places.of(states))),
        heads(attention.key(states)),
        heads(attention.value(states)),
        # Which positions there are to attend to is the same for every query.
        None if attention_mask is None else attention_mask[:, :, :1],
        attention.dropout.p if attention.training else 0.0,
    )
    return mixed.transpose(1, 2).flatten(2), None


def _select_residual(places: Places, _module: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Of what attention gave at `places` and the states of all positions: both at `places`, without filling."""
    mixed, states = inputs
    return places.without_filling(mixed), places.without_filling(places.of(states))


def _select_both(places: Places, module: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    mixed, states = inputs
    return _select_residual(places, module, (places.of(mixed), states))


def _select_states(places: Places, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    """Of the output of an encoder."""
    if isinstance(output, tuple):
        return (places.without_filling(places.of(output[0])), *output[1:])
    output["last_hidden_state"] = places.without_filling(places.of(output["last_hidden_state"]))
    return output


@contextmanager
def _hook(register: Callable[..., RemovableHandle], hook: Callable[..., Any]) -> Iterator[None]:
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside of it, `module` computes `forward`, not what its class, or another patch, does."""
    patched = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if patched is not None:
            module.forward = patched
