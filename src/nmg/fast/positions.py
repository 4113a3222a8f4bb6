"""Leave positions out as soon as no other position needs them.

Behind its last self-attention an encoder works on every position by itself. A loss that reads a few positions (the
masked ones; the first one) therefore needs only these from there on. In a model of two layers that saves a third of the
encoder's work, in one of twelve layers 5 %; and it saves the vocabulary's logits at positions without a label.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

_BERT_LIKE = {"bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie"}
"""Types of models whose last layer adds its residual inside of `attention`, and then is position-wise."""


@contextmanager
def only_states(model: PreTrainedModel, select: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside of it, the encoder's states [B, T, H] are replaced by `select(states)` as early as possible.

    That is behind the last self-attention where the architecture is known, otherwise behind the base model: the
    selected positions get the same values and gradients either way.
    """

    def replace(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (select(output[0]), *output[1:])
        output["last_hidden_state"] = select(output["last_hidden_state"])
        return output

    hook = (last_attention(model) or model.base_model).register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def states_the_head_reads(task_model: PreTrainedModel) -> Iterator[None]:
    """Leave out what the head of a task model does not read: sequence classifiers read the first position alone."""
    reads_first = type(task_model).__name__.endswith("ForSequenceClassification")
    if not reads_first or last_attention(task_model) is None:
        yield
        return
    with only_states(task_model, lambda states: states[:, :1]):
        yield


def last_attention(model: PreTrainedModel) -> nn.Module | None:
    """The module behind which the encoder is position-wise; None where the architecture is not known to have one."""
    if model.config.model_type not in _BERT_LIKE or getattr(model.config, "add_cross_attention", False):
        return None
    attention: nn.Module = model.base_model.encoder.layer[-1].attention
    return attention
