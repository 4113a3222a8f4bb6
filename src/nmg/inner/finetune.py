"""Fine-tuning an encoder on a task, and scoring it."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from nmg.fast.attention_mask import needed_inputs
from nmg.fast.embeddings import only_rows
from nmg.fast.positions import states_the_head_reads
from nmg.inner.accumulation import BatchLoss
from nmg.inner.encoder_copy import with_encoder_of
from nmg.inner.fit import FitResult, fit
from nmg.inner.memory import in_passes
from nmg.inner.runtime import Runtime, send
from nmg.reporter import Progress
from nmg.seeding import StreamName
from nmg.settings import FinetuneSettings
from nmg.tasks.base import Evaluation, Task
from nmg.tasks.rows import TaskFeatures
from nmg.types import Example, IntArray


def task_model(task: Task, lm: PreTrainedModel, randomness: StreamName) -> PreTrainedModel:
    """A task model of transformers' own class: the encoder's weights from `lm`, the head drawn from `randomness`.

    Every weight of its encoder comes from the LM, but those of a pooler, which most masked LMs lack. What the LM has
    and the task's class does not use is left out: BigBird's pooler, Funnel's decoder. Raises ValueError if the LM lacks
    other weights.
    """
    # transformers keeps Python that comes with a model in this package: it runs already, because the user trusts it.
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
) -> FitResult:
    """Train `model` in place on the given rows of `features`; `max_steps` as in `fit`.

    Raises Diverged where that ends in no finite weights.
    """

    def loss_of(chosen: IntArray) -> BatchLoss:
        batch = features.batch(rows[chosen])
        terms = features.loss_terms(batch)
        n_terms = max(int(terms.sum()), 1)

        def of_part(part: slice) -> Tensor:
            inputs = needed_inputs(model, {name: tensor[part] for name, tensor in batch.items()})
            some = {name: send(tensor, model.device) for name, tensor in inputs.items()}
            share = int(terms[part].sum()) / n_terms
            with states_the_head_reads(model, len(some["input_ids"])):
                output = model(**some)
            # A mean over no term is NaN, and 0 times NaN is no gradient of 0.
            return output.loss * share if share else output[1].sum() * 0.0  # type: ignore[no-any-return]

        return of_part

    # With weight decay every row of the embeddings moves, whether it occurs or not.
    is_exact = settings.weight_decay == 0
    with only_rows(model, torch.from_numpy(features.distinct_ids(rows))) if is_exact else nullcontext():
        return fit(
            model,
            features.lengths[rows],
            loss_of,
            settings,
            runtime,
            randomness,
            lower="finetune.learning_rate",
            max_steps=max_steps,
            progress=progress,
        )


def evaluate(
    model: PreTrainedModel, task: Task, features: TaskFeatures, examples: Sequence[Example], runtime: Runtime
) -> Evaluation:
    """Score `model` on all of `features`, the encoding of `examples`."""
    return task.evaluate(predict(model, task, features, runtime), features, examples)


def predict(model: PreTrainedModel, task: Task, features: TaskFeatures, runtime: Runtime) -> dict[str, Tensor]:
    """The outputs that the task reads, of all rows in row order: [F, ...] float32 on the CPU.

    Those with a number a token have -inf after the end of a shorter row.

    Rows run in batches of similar length, longest first.
    """
    model.eval()
    order = np.argsort(-features.lengths, kind="stable")

    def read(part: slice) -> ModelOutput:
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
    """Values [F, T, ...] with -inf after the end of each row."""
    is_after = torch.arange(values.shape[1]) >= torch.from_numpy(features.lengths)[:, None]
    return values.masked_fill(is_after.view(*is_after.shape, *[1] * (values.ndim - 2)), float("-inf"))
