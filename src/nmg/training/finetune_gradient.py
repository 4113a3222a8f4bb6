"""Gradient of a fine-tuned model's validation loss with respect to its encoder."""

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from nmg.tasks.rows import TaskFeatures
from nmg.training.fast.functions import fast_functions
from nmg.training.finetune import batch_loss
from nmg.training.runtime import Runtime


def finetuned_gradient(model: PreTrainedModel, features: TaskFeatures, runtime: Runtime) -> dict[str, Tensor]:
    """Return the gradient of the mean loss on `features` for each parameter of the task model, without dropout.

    It treats fine-tuning as a fixed shift of the weights: a change of the adapted LM is assumed to change the
    fine-tuned encoder by as much.

    Args:
        model: The fine-tuned task model.
        features: Encoded validation examples.
        runtime: Batch size and precision.

    Returns:
        Parameter name → float32 gradient. Encoder parameters have the same names as in the masked LM.
    """
    model.eval()
    model.zero_grad(set_to_none=True)
    order = np.argsort(-features.lengths, kind="stable")
    n_terms = max(int(features.loss_terms(features.batch(order)).sum()), 1)
    for first in range(0, len(order), runtime.evaluation_batch_size):
        rows = order[first : first + runtime.evaluation_batch_size]
        with runtime.autocast(), fast_functions(runtime.device, model):
            loss = batch_loss(model, features, rows, n_terms)(slice(None))
        loss.backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found
