"""Records of trials. A trial is one inner loop under a masking: adapt, evaluate, score.

Learners see results, so the records are here. `nmg.trials.trial` runs trials.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter

from nmg.base.settings import Evaluation
from nmg.base.types import FloatArray

Labelled: TypeAlias = int | Literal["all"] | None
"""Number of labelled examples to fine-tune on (per class in a classification), or None for the configured number."""


@dataclass(frozen=True)
class Condition:
    """Labels, adaptation steps and LoRA rank of a trial. Maskings are compared only within the same condition."""

    labelled: Labelled = None
    adapt_steps: int | None = None
    """Number of adaptation steps, or None for the number that `adapt.epochs` gives."""
    lora_rank: int | None = None
    """Rank of LoRA in the adaptation, 0 for training the whole model, or None for `adapt.lora.rank`."""


@dataclass(frozen=True)
class TrialSpec:
    """Identifies a trial among those with the same settings, data and model."""

    masking: str
    """Name of the masking, or of the player in an episode."""
    seed: int
    condition: Condition = Condition()
    learning_rate: float | None = None
    """Learning rate of the adaptation, or None for `adapt.learning_rate`."""
    finetune_steps: int | None = None
    """Maximum number of fine-tuning steps, or None for no limit."""
    evaluation: Evaluation = "finetune"
    replicate: int = 0
    """Replicate number among trials that differ only in the randomness of their fine-tuning."""

    def limited(self, steps: int | None) -> "TrialSpec":
        """Return a copy with `steps` adaptation steps and at most `steps` fine-tuning steps."""
        return replace(self, condition=replace(self.condition, adapt_steps=steps), finetune_steps=steps)

    @property
    def name(self) -> str:
        """Name for messages and files, e.g. 'random.seed-0.labelled-16.steps-50'."""
        parts = {
            "labelled": self.condition.labelled,
            "steps": self.condition.adapt_steps,
            "lora": self.condition.lora_rank,
            "rate": self.learning_rate,
            "by": None if self.evaluation == "finetune" else self.evaluation,
            "replicate": self.replicate or None,
        }
        others = [f"{part}-{value}" for part, value in parts.items() if value is not None]
        return ".".join([slug(self.masking), f"seed-{self.seed}", *others])


def slug(masking: str) -> str:
    """Turn a masking's name, which may be the path of a folder, into a valid file name.

    >>> slug("0.5*idf+random"), slug("idf*"), slug("runs/a/policy")
    ('0.5-of-idf-and-random', 'idf-tuned', 'runs-a-policy')
    """
    shares = re.sub(r"([\d.]+)\s*\*\s*(?=\w)", r"\1-of-", masking)  # weights of a mixture
    name = re.sub(r"\s*\+\s*", "-and-", shares).replace("*", "-tuned")
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "policy"


@dataclass(frozen=True)
class TrainingStats:
    """Size, loss and duration of a training run."""

    steps: int = 0
    """Number of optimiser steps."""
    loss: float | None = None
    """Mean loss over the last epoch, in nats; None if there was no step."""
    seconds: float = 0.0
    """Wall time, in seconds. For an adaptation it includes masks that are drawn before the first step."""
    tokens: int = 0
    """Number of tokens that an adaptation reads over all epochs, with special tokens and without padding."""
    masked_tokens: int = 0
    """Number of masked positions that an adaptation trains on, over all epochs."""


_NUMBERS = TypeAdapter(list[float])


def _from_json(value: Any) -> FloatArray:
    """Return numbers read from JSON as an array; raises ValueError for anything else that is not an array."""
    return value if isinstance(value, np.ndarray) else np.array(_NUMBERS.validate_python(value))


ExampleScores: TypeAlias = Annotated[FloatArray, BeforeValidator(_from_json), PlainSerializer(np.ndarray.tolist)]
"""float64 [examples], stored as a list of numbers."""


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial. If trials share an adaptation, each of them has its full statistics."""

    __pydantic_config__: ClassVar = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    spec: TrialSpec
    scores: Mapping[str, float]
    """Metric → score on the held-out examples. Higher is better for every metric except `loss`."""
    example_scores: Mapping[str, ExampleScores] = field(default_factory=dict, compare=False)
    """Metric → score of each held-out example, for metrics that are means over examples. A comparison keeps those of
    the tested metric, an audit keeps none."""
    adaptation: TrainingStats = TrainingStats()
    finetuning: TrainingStats = TrainingStats()
    """Statistics of the fine-tuning run, or of the linear probe, which has no steps, only seconds."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time of other phases, in seconds: `evaluate`, and in a comparison `masks`, which is part of the adaptation,
    and `held_out`."""
    held_out_loss: float | None = None
    """Mean masked-LM loss on held-out text under fixed random masks, in nats; None without held-out text."""
    n_labelled: int = 0
    """Number of labelled examples of the training set, in a comparison."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Properties of the environment that affect rounding (`Runtime.environment`)."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Name → digest of everything that determines the trial in addition to `spec`: settings, data, model."""
    error: str | None = None
    """The error in one line, or None if the trial succeeded. A failed trial has no scores."""
    traceback: str = ""
    """Traceback of the error. It is not stored with the results."""

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Phase (`INNER_PHASES`) → wall time, in seconds."""
        adapt, finetune = self.adaptation.seconds, self.finetuning.seconds
        return {"adapt": adapt, "finetune": finetune, "evaluate": self.seconds.get("evaluate", 0.0)}

    @property
    def total_seconds(self) -> float:
        """Wall time of adaptation, fine-tuning and evaluation, in seconds."""
        return sum(self.phase_seconds.values())

    def score(self, metric: str) -> float:
        """Return the score of a metric with its sign chosen so that higher is better."""
        return -self.scores[metric] if metric == "loss" else self.scores[metric]
