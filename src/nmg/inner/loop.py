"""The inner loop: adapt the LM under masks, fine-tune it on a task, score it.

Episodes, comparisons, meta-test and the demo all run this one.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nmg.errors import Diverged
from nmg.inner.adapt import adapt
from nmg.inner.arena import Arena
from nmg.inner.finetune import evaluate, finetune, task_model
from nmg.inner.fit import FitResult
from nmg.inner.lm import ModelState, restore_state
from nmg.inner.masks import Masks
from nmg.inner.probe import probe
from nmg.seeding import StreamName
from nmg.tasks.base import Evaluation, Task
from nmg.tasks.rows import TaskFeatures
from nmg.types import Example, IntArray, Outcome


@dataclass(frozen=True)
class Encoded:
    """Task examples with their model inputs."""

    examples: Sequence[Example]
    features: TaskFeatures

    @classmethod
    def of(cls, task: Task, examples: Sequence[Example]) -> "Encoded":
        return cls(examples, task.encode(examples))


@dataclass(frozen=True)
class Trial:
    """What an adapted LM is tried on."""

    task: Task
    train: Encoded
    rows: IntArray
    """rows of `train` to fine-tune on"""
    held_out: Encoded
    """what is scored"""
    measure: Literal["finetune", "probe"] = "finetune"
    again: int = 0
    """number of the trial among those that differ in their randomness alone"""
    max_steps: int | None = None
    """the fine-tuning ends after so many steps: to measure what one costs"""


def inner_loop(
    arena: Arena,
    start: ModelState,
    masks: Masks | None,
    trials: Sequence[Trial],
    randomness: StreamName,
    steps: int | None = None,
) -> Iterator[Outcome]:
    """Adapt `arena.model` from `start`, then fine-tune a copy of it for each trial; the outcomes in order.

    Afterwards `arena.model` holds the adapted LM. Without masks it is the one it starts from. Every random draw
    (corruption, batch order, dropout, task head) is named by `randomness` alone, so inner loops of one name differ in
    nothing but their masks, and equal masks give equal outcomes. Raises Diverged where a training or a score is not
    finite.
    """
    restore_state(arena.model, start)
    began = time.perf_counter()
    adapted = adapt(arena, masks, randomness, steps) if masks is not None else None
    adapting = time.perf_counter() - began if adapted else 0.0
    name = masks.name if masks is not None else "none"
    for trial in trials:
        evaluation, tuned, evaluating = _try(arena, trial, randomness, name)
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
                "adapt": adapting,  # all of it: masks may be chosen before the first step
                "finetune": tuned.seconds,
                "evaluate": evaluating,
            },
        )


def _try(arena: Arena, trial: Trial, randomness: StreamName, name: str) -> tuple[Evaluation, FitResult, float]:
    """Scores of the adapted LM on a trial, its fine-tuning, and seconds of the evaluation."""
    features, began = trial.held_out.features, time.perf_counter()
    if trial.measure == "probe":
        outputs = probe(arena, trial.task, trial.train.features, trial.rows, features)
        probed = FitResult(0, float("nan"), time.perf_counter() - began)
        return trial.task.evaluate(outputs, features, trial.held_out.examples), probed, 0.0
    randomness = randomness / "again" / trial.again if trial.again else randomness
    model = task_model(trial.task, arena.model, randomness / "head")
    progress = arena.reporter.steps(f"fine-tuning · {name}")
    stream = randomness / "finetune"
    tuned = finetune(
        model,
        trial.train.features,
        trial.rows,
        arena.finetune,
        arena.runtime,
        stream,
        max_steps=trial.max_steps,
        progress=progress,
    )
    began = time.perf_counter()
    evaluation = evaluate(model, trial.task, features, trial.held_out.examples, arena.runtime)
    return evaluation, tuned, time.perf_counter() - began


def _check_finite(evaluation: Evaluation) -> None:
    for name, score in evaluation.scores.items():
        if not math.isfinite(score):
            raise Diverged(
                f"the training diverged: the score '{name}' of its model is {score}. Lower finetune.learning_rate or "
                "adapt.learning_rate."
            )


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean of the scores of several trials of one adapted LM; steps and seconds of the fine-tunings add up."""
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
