"""Runs trials: adapt the LM with masks, evaluate it on a task, and score it.

Episodes, comparisons and audits are lists of trials.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmg.base.errors import Diverged
from nmg.base.seeding import StreamName
from nmg.base.trial import TrainingStats, TrialResult, TrialSpec
from nmg.base.types import Example, IntArray
from nmg.tasks.base import Evaluation, Task
from nmg.tasks.rows import TaskFeatures
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.finetune import evaluate, finetune, task_model
from nmg.training.lm import ModelState, restore_state
from nmg.training.lora import with_rank
from nmg.training.masks import Masks
from nmg.training.probe import probe
from nmg.training.states import embed


@dataclass(frozen=True)
class Encoded:
    """Task examples with their model inputs."""

    examples: Sequence[Example]
    features: TaskFeatures

    @classmethod
    def of(cls, task: Task, examples: Sequence[Example]) -> "Encoded":
        """Encode examples for a task."""
        return cls(examples, task.encode(examples))


@dataclass(frozen=True)
class Trial:
    """A trial and the data of its evaluation."""

    spec: TrialSpec
    task: Task
    train: Encoded
    rows: IntArray
    """int [N]: rows of `train` to fine-tune on."""
    held_out: Encoded
    """Examples to score."""


def run_trials(
    context: TrainingContext,
    start: ModelState,
    masks: Masks | None,
    trials: Sequence[Trial],
    randomness: StreamName,
    held_out_loss: Callable[[TrainingContext], tuple[float, float]] | None = None,
) -> Iterator[TrialResult]:
    """Adapt `context.model` from `start` once, then evaluate it for each trial, and yield the results in order.

    Afterwards `context.model` holds the adapted LM. Every random draw (corruption, batch order, dropout, task head)
    depends only on `randomness` and the replicate. Trials with equal streams therefore differ only in their masks, and
    equal masks give equal results. A trial whose training diverges has an error instead of scores.

    Args:
        context: Context with the working copy of the model.
        start: Weights to start from.
        masks: Text and masks to adapt on, or None for no adaptation.
        trials: Trials that share the adaptation; the steps and the learning rate are those of the first trial.
        randomness: Random stream of the trials.
        held_out_loss: Returns the masked-LM loss of the adapted LM on held-out text, and the seconds that it took.

    Yields:
        The result of each trial.
    """
    restore_state(context.model, start)
    environment = context.runtime.environment()
    try:
        adaptation = TrainingStats() if masks is None else _adapt(context, masks, randomness, trials[0].spec)
        loss, measuring = held_out_loss(context) if held_out_loss is not None else (None, 0.0)
        _require_finite({} if loss is None else {"held_out_loss": loss})
    except Diverged as error:
        yield from (TrialResult(trial.spec, {}, error=str(error)) for trial in trials)
        return
    for trial in trials:
        try:
            evaluation, tuned, evaluating = _evaluate(context, trial, randomness)
            _require_finite(evaluation.scores)
        except Diverged as error:
            yield TrialResult(trial.spec, {}, error=str(error))
            continue
        yield TrialResult(
            trial.spec,
            evaluation.scores,
            evaluation.example_scores,
            adaptation,
            tuned,
            seconds={"evaluate": evaluating, "held_out": measuring},
            held_out_loss=loss,
            environment=environment,
        )


def _adapt(context: TrainingContext, masks: Masks, randomness: StreamName, spec: TrialSpec) -> TrainingStats:
    """Adapt `context.model` with the steps, the LoRA rank and the learning rate of a trial.

    Args:
        context: Context with the working copy of the model.
        masks: Text and masks to adapt on.
        randomness: Random stream of the adaptation.
        spec: The trial.

    Returns:
        Statistics of the training.
    """
    settings = context.adapt
    if spec.condition.lora_rank is not None:
        settings = with_rank(settings, spec.condition.lora_rank)
    if spec.learning_rate is not None:
        settings = settings.model_copy(update={"learning_rate": spec.learning_rate})
    return adapt(replace(context, adapt=settings, adapt_steps=spec.condition.adapt_steps), masks, randomness)


def _evaluate(
    context: TrainingContext, trial: Trial, randomness: StreamName
) -> tuple[Evaluation, TrainingStats, float]:
    """Return the evaluation of the adapted LM, the statistics of its training, and the seconds that scoring took."""
    spec, features, began = trial.spec, trial.held_out.features, time.perf_counter()
    if spec.evaluation == "embedding":
        evaluation = trial.task.evaluate({"embedding": embed(context, features)}, features, trial.held_out.examples)
        return evaluation, TrainingStats(), time.perf_counter() - began
    if spec.evaluation == "linear-probe":
        outputs = probe(context, trial.task, trial.train.features, trial.rows, features)
        seconds = time.perf_counter() - began
        scoring = seconds * len(features) / (len(features) + len(trial.rows))  # it reads all rows at the same speed
        evaluation = trial.task.evaluate(outputs, features, trial.held_out.examples)
        return evaluation, TrainingStats(seconds=seconds - scoring), scoring
    randomness = randomness / "again" / spec.replicate if spec.replicate else randomness
    model = task_model(trial.task, context.model, randomness / "head")
    tuned = finetune(
        model,
        trial.train.features,
        trial.rows,
        context.finetune,
        context.runtime,
        randomness / "finetune",
        max_steps=spec.finetune_steps,
        progress=context.reporter.steps(f"fine-tuning · {spec.masking}"),
    )
    began = time.perf_counter()
    evaluation = evaluate(model, trial.task, features, trial.held_out.examples, context.runtime)
    return evaluation, tuned, time.perf_counter() - began


def _require_finite(numbers: Mapping[str, float]) -> None:
    """Raise Diverged if a number is not finite; `numbers` maps names to scores or losses."""
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise Diverged(
                f"the training diverged: the score '{name}' of its model is {number}. Lower finetune.learning_rate or "
                "adapt.learning_rate."
            )


def mean_result(results: Sequence[TrialResult]) -> TrialResult:
    """Average the scores of replicates, and sum the steps and seconds of their evaluations.

    Returns the first failed result if there is one.
    """
    first, n = results[0], len(results)
    failed = next((one for one in results if one.error is not None), None)
    if n == 1 or failed is not None:
        return failed or first
    steps, seconds = sum(one.finetuning.steps for one in results), sum(one.finetuning.seconds for one in results)
    return replace(
        first,
        scores={name: sum(one.scores[name] for one in results) / n for name in first.scores},
        example_scores={
            name: np.mean([one.example_scores[name] for one in results], axis=0) for name in first.example_scores
        },
        finetuning=TrainingStats(steps, seconds=seconds),
        seconds={phase: sum(one.seconds[phase] for one in results) for phase in first.seconds},
    )
