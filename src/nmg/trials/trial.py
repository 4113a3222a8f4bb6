"""The inner loop: adapt the LM with masks, fine-tune it on a task, and score it.

Episodes, comparisons, meta-test and the demo all use it.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nmg.base.errors import Diverged
from nmg.base.seeding import StreamName
from nmg.base.types import Example, IntArray, Outcome
from nmg.tasks.base import Evaluation, Task
from nmg.tasks.rows import TaskFeatures
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.finetune import evaluate, finetune, task_model
from nmg.training.fit import FitResult
from nmg.training.lm import ModelState, restore_state
from nmg.training.masks import Masks
from nmg.training.probe import probe


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
    """One evaluation of an adapted LM, by fine-tuning or by a probe, and its data."""

    task: Task
    train: Encoded
    rows: IntArray
    """int [N]: rows of `train` to fine-tune on."""
    held_out: Encoded
    """Examples to score."""
    evaluation: Literal["finetune", "linear-probe"] = "finetune"
    """How the LM is evaluated: by fine-tuning or by a linear probe."""
    replicate: int = 0
    """Replicate number among trials that differ only in their randomness."""
    max_steps: int | None = None
    """Maximum number of fine-tuning steps, used to measure the cost of a step; None for no limit."""


def inner_loop(
    context: TrainingContext,
    start: ModelState,
    masks: Masks | None,
    trials: Sequence[Trial],
    randomness: StreamName,
    steps: int | None = None,
) -> Iterator[Outcome]:
    """Adapt `context.model` from `start`, then fine-tune a copy of it for each trial, and yield the outcomes in order.

    Afterwards `context.model` holds the adapted LM. Every random draw (corruption, batch order, dropout, task head)
    depends only on `randomness`. Inner loops with equal streams therefore differ only in their masks, and equal masks
    give equal outcomes.

    Args:
        context: Context with the working copy of the model.
        start: Weights to start from.
        masks: Text and masks to adapt on, or None for no adaptation.
        trials: Trials of the adapted LM.
        randomness: Random stream of the inner loop.
        steps: Number of adaptation steps, or None for `adapt.epochs`.

    Yields:
        The outcome of each trial.

    Raises:
        Diverged: If a loss, weight or score is not finite.
    """
    restore_state(context.model, start)
    began = time.perf_counter()
    adapted = adapt(context, masks, randomness, steps) if masks is not None else None
    adapting = time.perf_counter() - began if adapted else 0.0
    name = masks.name if masks is not None else "none"
    for trial in trials:
        evaluation, tuned, evaluating = _try(context, trial, randomness, name)
        _check_finite(evaluation)
        yield Outcome(
            scores=evaluation.scores,
            example_scores=evaluation.example_scores,
            lm_loss=adapted.fit.loss if adapted else float("nan"),
            lm_steps=adapted.fit.steps if adapted else 0,
            task_steps=tuned.steps,
            masked_tokens=adapted.masked_tokens if adapted else 0,
            tokens=adapted.tokens if adapted else 0,
            seconds={
                "adapt": adapting,  # includes masks chosen before the first step
                "finetune": tuned.seconds,
                "evaluate": evaluating,
            },
        )


def _try(
    context: TrainingContext, trial: Trial, randomness: StreamName, name: str
) -> tuple[Evaluation, FitResult, float]:
    """Return the evaluation of a trial, the result of its fine-tuning, and the seconds of the evaluation."""
    features, began = trial.held_out.features, time.perf_counter()
    if trial.evaluation == "linear-probe":
        outputs = probe(context, trial.task, trial.train.features, trial.rows, features)
        probed = FitResult(0, float("nan"), time.perf_counter() - began)
        return trial.task.evaluate(outputs, features, trial.held_out.examples), probed, 0.0
    randomness = randomness / "again" / trial.replicate if trial.replicate else randomness
    model = task_model(trial.task, context.model, randomness / "head")
    progress = context.reporter.steps(f"fine-tuning · {name}")
    stream = randomness / "finetune"
    tuned = finetune(
        model,
        trial.train.features,
        trial.rows,
        context.finetune,
        context.runtime,
        stream,
        max_steps=trial.max_steps,
        progress=progress,
    )
    began = time.perf_counter()
    evaluation = evaluate(model, trial.task, features, trial.held_out.examples, context.runtime)
    return evaluation, tuned, time.perf_counter() - began


def _check_finite(evaluation: Evaluation) -> None:
    """Raise Diverged if a score is not finite."""
    for name, score in evaluation.scores.items():
        if not math.isfinite(score):
            raise Diverged(
                f"the training diverged: the score '{name}' of its model is {score}. Lower finetune.learning_rate or "
                "adapt.learning_rate."
            )


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """Average the scores of several trials of one adapted LM, and sum the steps and seconds of the fine-tunings."""
    first, n = outcomes[0], len(outcomes)
    if n == 1:
        return first
    phases = {phase: sum(one.seconds[phase] for one in outcomes) for phase in first.seconds}
    return replace(
        first,
        scores={name: sum(one.scores[name] for one in outcomes) / n for name in first.scores},
        example_scores={
            name: np.mean([one.example_scores[name] for one in outcomes], axis=0) for name in first.example_scores
        },
        task_steps=sum(one.task_steps for one in outcomes),
        seconds=phases | {"adapt": first.seconds["adapt"]},
    )
