"""Results of trials without a model, and trials that fail."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from nmg.auditing.trials import AuditTrial
from nmg.base.trial import Condition, Labelled, TrainingStats, TrialResult, TrialSpec
from nmg.trials import trial

ANY = Condition()


def scored(scores: Mapping[str, float]) -> TrialResult:
    """The result of a player with these scores."""
    return TrialResult(TrialSpec("player", 0), scores)


def compared(
    masking: str,
    seed: int,
    scores: Mapping[str, float],
    condition: Condition = ANY,
    *,
    n_labelled: int = 40,
    held_out: float | None = 4.0,
    factor: float = 1.0,
    adapts: bool = True,
) -> TrialResult:
    """A trial of a comparison: 7 seconds, times a factor, without those of the held-out text."""
    adapted = TrainingStats(10, 1.5, 4.0 * factor, tokens=4800, masked_tokens=1200)
    unadapted = TrainingStats(seconds=4.0 * factor)
    return TrialResult(
        TrialSpec(masking, seed, condition),
        scores,
        adaptation=adapted if adapts else unadapted,
        finetuning=TrainingStats(5, 0.5, 2.0 * factor),
        seconds={"evaluate": factor, "masks": 0.5 * factor, "held_out": 9.0 * factor},
        held_out_loss=held_out,
        n_labelled=n_labelled,
    )


def audited(
    masking: str,
    seed: int,
    probe: Mapping[str, float],
    finetune: Sequence[Mapping[str, float]],
    *,
    steps: int = 10,
    labelled: Labelled = 100,
    lm_loss: float = 5.0,
    adapt: float = 4.0,
    probing: float = 1.0,
    tuning: float = 3.0,
    scoring: float = 0.0,
) -> AuditTrial:
    """A trial of an audit. `probing`, `tuning`: seconds, with scoring; `scoring`: of all evaluations together."""
    spec = TrialSpec(masking, seed, Condition(labelled, steps), 1e-3)
    adaptation = TrainingStats(steps, lm_loss, adapt)
    part = scoring / (1 + len(finetune))
    results = [
        TrialResult(
            one,
            scores,
            adaptation=adaptation,
            finetuning=TrainingStats(seconds=all_ - part),
            seconds={"evaluate": part},
        )
        for one, scores, all_ in [
            (replace(spec, evaluation="linear-probe"), probe, probing),
            *((replace(spec, replicate=number), scores, tuning) for number, scores in enumerate(finetune)),
        ]
    ]
    return AuditTrial(results)


def break_trial(patch: pytest.MonkeyPatch, masking: str, seed: int, error: BaseException | None) -> None:
    """Let the evaluation of one trial raise `error`, or give a loss of NaN."""
    true = trial._evaluate

    def evaluate(context: object, one: trial.Trial, randomness: object) -> object:
        evaluation, tuned, seconds = true(context, one, randomness)  # type: ignore[arg-type]
        if (one.spec.masking, one.spec.seed) != (masking, seed):
            return evaluation, tuned, seconds
        if error is not None:
            raise error
        return replace(evaluation, scores={**evaluation.scores, "loss": math.nan}), tuned, seconds

    patch.setattr(trial, "_evaluate", evaluate)
