"""Gradient of a fine-tuned model's validation loss with respect to its encoder."""

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from nmg.base.types import IntArray
from nmg.tasks.rows import TaskFeatures
from nmg.training.fast.functions import fast_functions
from nmg.training.finetune import batch_loss
from nmg.training.runtime import Runtime


def finetuned_gradient(
    model: PreTrainedModel, features: TaskFeatures, runtime: Runtime, rows: IntArray | None = None
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss on `features` for each parameter of the task model, without dropout.

    It treats fine-tuning as a fixed shift of the weights: a change of the adapted LM is assumed to change the
    fine-tuned encoder by as much.

    Args:
        model: The fine-tuned task model.
        features: Encoded examples that the model was not trained on.
        runtime: Batch size and precision.
        rows: int [M]: rows of `features` to use; None for all.

    Returns:
        Parameter name → float32 gradient. Encoder parameters have the same names as in the masked LM.
    """
    model.eval()
    model.zero_grad(set_to_none=True)
    chosen = np.arange(len(features)) if rows is None else rows
    order = chosen[np.argsort(-features.lengths[chosen], kind="stable")]
    n_terms = max(int(features.loss_terms(features.batch(order)).sum()), 1)
    for first in range(0, len(order), runtime.evaluation_batch_size):
        batch = order[first : first + runtime.evaluation_batch_size]
        with runtime.autocast(), fast_functions(runtime.device, model):
            loss = batch_loss(model, features, batch, n_terms)(slice(None))
        loss.backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found
