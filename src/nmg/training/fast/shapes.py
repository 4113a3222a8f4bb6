"""Rounds the shapes of a batch up, so that its matrix products in bfloat16 on a CPU have shapes that occurred before.

oneDNN, which multiplies bfloat16 on CPUs, compiles code for each new shape of a product. This takes 1.5 to 3.5 ms, as
long as ten products of a small model. It keeps the code of the last 1024 shapes. Lengths and numbers of masked tokens
differ from batch to batch, so without rounding nearly every product has a new shape. In float32 nothing is compiled.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from nmg.training.fast.model_types import PURE_ATTENTION

TOKENS, ENTRIES, MASKED = 8, 4, 32
"""Row lengths, and numbers of masked tokens in a row and in a batch, are rounded up to a multiple of these."""


def has_costly_shapes(model: PreTrainedModel) -> bool:
    """Return whether rounding shapes saves time: in a training step in bfloat16 on the CPU, for known model types."""
    in_bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    is_step = torch.is_grad_enabled() and model.training
    return is_step and in_bf16 and model.device.type == "cpu" and model.config.model_type in PURE_ATTENTION


def rounded_up(number: int, unit: int) -> int:
    """Return the smallest multiple of `unit` that is at least `number`."""
    return -(-number // unit) * unit


def with_rounded_length(
    model: PreTrainedModel, input_ids: Tensor, is_token: Tensor, is_masked: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a batch with padding up to a multiple of `TOKENS`, unless the model accepts no rows of this length.

    Args:
        model: The masked LM.
        input_ids: int64 [B, T]: token ids.
        is_token: bool [B, T]: False at padding.
        is_masked: bool [B, T]: positions to predict.

    Returns:
        The three tensors, [B, T'].
    """
    length = input_ids.shape[1]
    added = rounded_up(length, TOKENS) - length
    # RoBERTa's positions begin at 2. A model whose word table has only the pieces of a corpus may lack the padding
    # piece, but it has the first piece of each row.
    if not added or length + added > int(model.config.max_position_embeddings) - 2:
        return input_ids, is_token, is_masked
    filling = input_ids[:, :1].expand(-1, added)
    return (
        torch.cat([input_ids, filling], dim=1),
        F.pad(is_token, (0, added), value=False),
        F.pad(is_masked, (0, added), value=False),
    )
