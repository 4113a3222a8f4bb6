"""Fine-tuning of an encoder on a task, and scoring."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from nmg.base.progress import Progress
from nmg.base.seeding import StreamName
from nmg.base.training_settings import FinetuneSettings
from nmg.base.trial import TrainingStats
from nmg.base.types import Example, IntArray
from nmg.tasks.base import Evaluation, Task
from nmg.tasks.rows import TaskFeatures
from nmg.training.accumulation import BatchLoss
from nmg.training.encoder_copy import with_encoder_of
from nmg.training.fast.attention_mask import needed_inputs
from nmg.training.fast.embeddings import only_rows
from nmg.training.fast.positions import states_the_head_reads
from nmg.training.fit import fit
from nmg.training.memory import in_passes
from nmg.training.runtime import Runtime, send


def task_model(task: Task, lm: PreTrainedModel, randomness: StreamName) -> PreTrainedModel:
    """Build the task model: encoder weights from `lm`, a new head drawn from `randomness`.

    The model has the task's own class in transformers. Weights of a pooler, which most masked LMs lack, are drawn, too.
    Parts of the LM that this class does not use are dropped, such as BigBird's pooler or Funnel's decoder.

    Args:
        task: The task.
        lm: The adapted LM.
        randomness: Random stream of the new weights.

    Returns:
        The task model, on the device of `lm`.

    Raises:
        ValueError: If the LM lacks other weights of the encoder.
    """
    # transformers loads custom model code into this package. It already runs, so the user trusts it.
    is_trusted = type(lm).__module__.startswith("transformers_modules.")
    with randomness.torch():
        return with_encoder_of(lm, partial(task.new_model, lm.config, trust_remote_code=is_trusted), whole=is_trusted)


def finetune(
    model: PreTrainedModel,
    features: TaskFeatures,
    rows: IntArray,
    settings: FinetuneSettings,
    runtime: Runtime,
    randomness: StreamName,
    *,
    max_steps: int | None = None,
    progress: Progress | None = None,
) -> TrainingStats:
    """Train `model` in place on some rows of `features`.

    Args:
        model: The task model.
        features: Encoded examples.
        rows: int [N]: rows to train on.
        settings: Fine-tuning settings.
        runtime: Device, precision and data parallelism.
        randomness: Random stream.
        max_steps: Maximum number of steps.
        progress: Called with (step, number of steps) after each step.

    Returns:
        Number of steps, mean loss of the last epoch, and wall time in seconds.

    Raises:
        Diverged: If a loss or the final weights are not finite.
    """
    # With weight decay, every row of the embeddings changes, whether it occurs or not.
    is_exact = settings.weight_decay == 0
    with only_rows(model, torch.from_numpy(features.distinct_ids(rows))) if is_exact else nullcontext():
        return fit(
            model,
            features.lengths[rows],
            lambda chosen: batch_loss(model, features, rows[chosen]),
            settings,
            runtime,
            randomness,
            lower="finetune.learning_rate",
            max_steps=max_steps,
            progress=progress,
        )


def batch_loss(model: PreTrainedModel, features: TaskFeatures, rows: IntArray, n_terms: int | None = None) -> BatchLoss:
    """Return the loss function of a batch.

    Args:
        model: The task model.
        features: Encoded examples.
        rows: int [B]: rows of the batch.
        n_terms: Number of loss terms of the mean to which the batch contributes; None for those of the batch.

    Returns:
        Function of a slice of the batch: the part of the mean loss that belongs to its rows.
    """
    batch = features.batch(rows)
    terms = features.loss_terms(batch)
    n_terms = n_terms or max(int(terms.sum()), 1)

    def loss_of_part(part: slice) -> Tensor:
        inputs = needed_inputs(model, {name: tensor[part] for name, tensor in batch.items()})
        sent = {name: send(tensor, model.device) for name, tensor in inputs.items()}
        share = int(terms[part].sum()) / n_terms
        with states_the_head_reads(model, len(sent["input_ids"])):
            output = model(**sent)
        # The mean of an empty set is NaN, and 0 times NaN does not give a zero gradient.
        return output.loss * share if share else output[1].sum() * 0.0  # type: ignore[no-any-return]

    return loss_of_part


def evaluate(
    model: PreTrainedModel, task: Task, features: TaskFeatures, examples: Sequence[Example], runtime: Runtime
) -> Evaluation:
    """Score a task model on all rows.

    Args:
        model: The task model.
        task: The task.
        features: The encoding of `examples`.
        examples: The examples.
        runtime: Batch size and precision.

    Returns:
        The scores.
    """
    return task.evaluate(predict(model, task, features, runtime), features, examples)


def predict(model: PreTrainedModel, task: Task, features: TaskFeatures, runtime: Runtime) -> dict[str, Tensor]:
    """Compute the model outputs that the task reads, for all rows.

    Rows run in batches of similar length, longest first.

    Args:
        model: The task model.
        task: The task.
        features: Encoded examples.
        runtime: Batch size and precision.

    Returns:
        The outputs by name, float32 [F, ...] on the CPU, in row order. Outputs with one value per token are -inf after
        the end of a row.
    """
    model.eval()
    order = np.argsort(-features.lengths, kind="stable")

    def read(part: slice) -> ModelOutput:
        """Return the outputs of the model for some rows."""
        inputs = needed_inputs(model, features.inputs(order[part]))
        sent = {name: send(tensor, model.device) for name, tensor in inputs.items()}
        with torch.inference_mode(), runtime.autocast(), states_the_head_reads(model, len(order[part])):
            return model(**sent)

    outputs: dict[str, Tensor] = {}
    for part, predicted in in_passes(len(order), runtime.evaluation_batch_size, read):
        for name in task.outputs:
            values = predicted[name]
            if name not in outputs:  # the first pass holds the longest row
                outputs[name] = torch.full((len(order), *values.shape[1:]), float("-inf"))
            outputs[name][torch.from_numpy(order[part]), : values.shape[1]] = values.float().cpu()
    return {name: _cut(values, features) for name, values in outputs.items()} if task.outputs_are_per_token else outputs


def _cut(values: Tensor, features: TaskFeatures) -> Tensor:
    """Set values [F, T, ...] to -inf after the end of each row."""
    is_after = torch.arange(values.shape[1]) >= torch.from_numpy(features.lengths)[:, None]
    return values.masked_fill(is_after.view(*is_after.shape, *[1] * (values.ndim - 2)), float("-inf"))
