"""Measures the gradient credit of word pieces, once per run (see `training.token_credit`).

A round adapts the LM under random masks, takes the gradient of the validation loss, and gives each masked token its
credit. Rounds are averaged per word piece. Pieces that were seen rarely are shrunk towards a regression on their other
features.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from nmg.base.errors import UserError
from nmg.base.progress import Progress
from nmg.base.seeding import StreamName
from nmg.base.settings import Evaluation, RuntimeSettings
from nmg.base.types import IGNORED_LABEL, Episode, FloatArray, IntArray, TokenBlocks
from nmg.executors.base import WorkerFactory
from nmg.executors.registry import open_executor
from nmg.masking.rules import RandomMasking
from nmg.policies.linear import CreditExamples
from nmg.training.adapt import adapt, trained_vocabulary
from nmg.training.finetune import finetune, task_model
from nmg.training.finetune_gradient import finetuned_gradient
from nmg.training.lm import ModelState, restore_state
from nmg.training.masks import FixedBatches, FixedMasks
from nmg.training.probe_gradient import encoder_gradient
from nmg.training.token_credit import LastMoments, token_credit
from nmg.trials.episode import EpisodeRunner

LEAST_OCCURRENCES = 20
"""Minimum number of masked occurrences of the pieces from which the reliability is computed."""
RIDGE = 1.0
"""Penalty of the regression on other features, in occurrences."""


class Round(NamedTuple):
    """The M masked tokens of one round."""

    pieces: IntArray
    """int64 [M]: token ids."""
    credit: FloatArray
    """float64 [M]: credit in nats of validation loss per unit of the learning rate."""


@dataclass(frozen=True)
class PieceCredit:
    """Credit of the V word pieces of a vocabulary."""

    credit: FloatArray
    """float64 [V]: credit, shrunk towards the regression on other features."""
    counts: FloatArray
    """float64 [V]: number of masked occurrences."""
    reliability: float | None
    """Correlation of the means of odd and even rounds over pieces with `LEAST_OCCURRENCES`; None with too few."""
    rounds: int
    seconds: float = 0.0

    def to_json(self, words: Sequence[str], n: int = 20) -> dict[str, Any]:
        """Return the facts for effects.json, with the `n` pieces of most and least credit that were seen often."""
        often = np.flatnonzero(self.counts >= LEAST_OCCURRENCES)
        order = often[np.argsort(-self.credit[often], kind="stable")]

        def listed(pieces: IntArray) -> list[dict[str, Any]]:
            return [{"piece": words[i], "credit": float(self.credit[i]), "count": int(self.counts[i])} for i in pieces]

        return {
            "rounds": self.rounds,
            "reliability": self.reliability,
            "seconds": self.seconds,
            "most": listed(order[:n]),
            "least": listed(order[::-1][:n]),
        }


class CreditJob(NamedTuple):
    """One round."""

    episode: Episode
    blocks: TokenBlocks
    randomness: StreamName


@dataclass(frozen=True)
class CreditWorker:
    """Runs rounds in one process; a `Worker`."""

    runner: EpisodeRunner
    """The runner of the inner loops. Its model is changed."""
    evaluation: Evaluation
    """How an adapted LM is scored."""
    examples: CreditExamples = "validation"
    """The examples whose loss credit is the gradient of."""

    def check(self) -> None:
        """Raise UserError if the settings do not support credit."""
        if self.evaluation == "embedding":
            raise UserError("policy.features: credit needs a task that is fine-tuned or probed, not embeddings")
        settings = self.runner.context.adapt
        if settings.lora.rank or settings.optimiser != "adamw":
            raise UserError("policy.features: credit needs adapt.optimiser adamw and adapt.lora.rank 0")

    def factory(self, settings: RuntimeSettings) -> WorkerFactory:
        """Return a function that creates a copy of this worker in another process."""
        return partial(_reopened, self.runner.factory(settings), self.evaluation, self.examples)

    def run(self, start: ModelState, job: CreditJob) -> Round:
        """Adapt under random masks, and return the credit of each masked token at the start weights.

        Raises UserError if the task does not support credit, and Diverged if the adaptation diverged.
        """
        context, randomness = self.runner.context, job.randomness
        plan = RandomMasking().plan(job.blocks, context.masking.rate, (randomness / "masks").generator())
        masks, last = FixedMasks(job.blocks, plan), LastMoments()
        restore_state(context.model, start)
        adapt(context, masks, randomness, observer=last)
        direction = last.scale(self._gradient(job))
        restore_state(context.model, start)
        with trained_vocabulary(context, masks) as (of_text, columns):
            batches = masks.start(of_text, randomness)
            assert isinstance(batches, FixedBatches)
            labels = batches.corrupted.labels
            credit = token_credit(of_text, batches.corrupted, direction, columns)
        restore_state(context.model, start)
        return Round(labels[labels != IGNORED_LABEL].numpy(), credit.numpy())

    def _gradient(self, job: CreditJob) -> Mapping[str, Tensor]:
        """Return the gradient of the loss of the adapted LM on `examples`, by parameter name."""
        runner, context, rows = self.runner, self.runner.context, job.episode.row_ids
        train, held_out, others = runner.train.features, runner.validation.features, None
        if self.examples == "training":
            mixed = (job.randomness / "folds").generator().permutation(rows)
            rows, others, held_out = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :], train
        if self.evaluation == "linear-probe":
            return encoder_gradient(context, train, rows, held_out, others)
        model = task_model(runner.task, context.model, job.randomness / "head")
        finetune(model, train, rows, context.finetune, context.runtime, job.randomness / "finetune")
        return finetuned_gradient(model, held_out, context.runtime, others)


def _reopened(
    factory: Callable[[int], EpisodeRunner], evaluation: Evaluation, examples: CreditExamples, threads: int
) -> CreditWorker:
    """Create a worker in this process, with `threads` torch threads."""
    return CreditWorker(factory(threads), evaluation, examples)


def measure_credit(
    worker: CreditWorker,
    settings: RuntimeSettings,
    start: ModelState,
    jobs: Sequence[CreditJob],
    others: FloatArray,
    progress: Progress,
) -> PieceCredit:
    """Run all rounds, side by side if inner loops do, and return the credit of all word pieces.

    Args:
        worker: The worker of this process.
        settings: Settings of the runtime.
        start: Weights of the LM before adaptation.
        jobs: The rounds.
        others: float64 [V, K]: other features of word pieces; K may be 0.
        progress: Called after each round.

    Returns:
        The credit.

    Raises:
        Diverged: An adaptation diverged.
        UserError: The settings or the task do not support credit.
    """
    worker.check()
    began, rounds = time.perf_counter(), dict[int, Round]()
    n_parameters = worker.runner.context.model.num_parameters()
    with open_executor(settings, worker, worker.factory(settings), len(jobs), n_parameters) as engine:
        for number, found in engine.map_unordered(start, jobs):
            rounds[number] = found
            progress(len(rounds), len(jobs))
    in_order = [rounds[number] for number in range(len(jobs))]
    return replace(piece_credit(in_order, others), seconds=time.perf_counter() - began)


def piece_credit(rounds: Sequence[Round], others: FloatArray) -> PieceCredit:
    """Average the rounds per word piece, and shrink the means towards a regression on other features.

    A piece with n occurrences moves from the regression towards its own mean by n / (n + σ² / τ²). σ² is the variance
    of a token's credit around the mean of its piece, τ² that of pieces around the regression.

    Args:
        rounds: The credit of the masked tokens of each round.
        others: float64 [V, K]: other features of word pieces.

    Returns:
        The credit of all V pieces; that of the regression for pieces that no round masked.
    """
    size = len(others)
    pieces, credit = _joined(rounds)
    counts, means = _means(pieces, credit, size)
    within = float(((credit - means[pieces]) ** 2).sum()) / max(len(credit) - int((counts > 0).sum()), 1)
    expected = _regression(others, means, counts)
    between = _between(means - expected, counts, within)
    share = counts * between / np.maximum(counts * between + within, 1e-300)
    halves = [_means(*_joined(rounds[first::2]), size) for first in (0, 1) if rounds[first::2]]
    return PieceCredit(expected + share * (means - expected), counts, _reliability(halves), len(rounds))


def _joined(rounds: Sequence[Round]) -> Round:
    """Return the tokens of all rounds as one round."""
    return Round(*(np.concatenate(parts) for parts in zip(*rounds, strict=True)))


def _means(pieces: IntArray, credit: FloatArray, size: int) -> tuple[FloatArray, FloatArray]:
    """Return the number of occurrences and the mean credit of each piece, float64 [V] each; mean 0 without any."""
    counts = np.bincount(pieces, minlength=size).astype(np.float64)
    return counts, np.bincount(pieces, weights=credit, minlength=size) / np.maximum(counts, 1)


def _regression(others: FloatArray, means: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the credit that the other features predict, float64 [V]: ridge regression, weighted by occurrences."""
    weights = counts / counts.sum()
    centre = weights @ others
    deviation = np.sqrt(weights @ (others - centre) ** 2)
    inputs = (others - centre) / np.where(deviation > 1e-9, deviation, 1.0)
    mean = float(weights @ means)
    matrix = (inputs * counts[:, None]).T @ inputs + RIDGE * np.eye(inputs.shape[1])
    slopes = np.linalg.solve(matrix, (inputs * counts[:, None]).T @ (means - mean))
    predicted: FloatArray = mean + inputs @ slopes
    return predicted


def _between(residual: FloatArray, counts: FloatArray, within: float) -> float:
    """Return the variance of pieces around the regression, by the method of moments; at least 0."""
    n = counts[counts > 0]
    if len(n) < 2:
        return 0.0
    excess = float(counts @ residual**2) - within * len(n)
    return max(0.0, excess / float(n.sum() - (n**2).sum() / n.sum()))


def _reliability(halves: Sequence[tuple[FloatArray, FloatArray]]) -> float | None:
    """Return the correlation of the means of both halves over pieces that are frequent in both; None with too few."""
    if len(halves) < 2:
        return None
    (first, one), (second, other) = halves
    is_often = (first + second >= LEAST_OCCURRENCES) & (first > 0) & (second > 0)
    if is_often.sum() < 3 or not one[is_often].std() or not other[is_often].std():
        return None
    return float(np.corrcoef(one[is_often], other[is_often])[0, 1])
