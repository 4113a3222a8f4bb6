"""A play of the audit: adapt a fresh LM under a masking, then measure it in every way that could be a reward."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from pydantic import TypeAdapter

from nmg.config import Config
from nmg.data.corpus import Corpus
from nmg.errors import Diverged
from nmg.inner.lm import ModelState, copy_state
from nmg.inner.loop import Encoded, Trial, inner_loop
from nmg.inner.masks import DrawnMasks
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.masking.base import Masking
from nmg.masking.registry import RULES, build_masking
from nmg.policies.linear import LinearPolicy, LinearSettings
from nmg.policies.masking import PolicyMasking
from nmg.policies.named import masking_identity
from nmg.reporter import Reporter, Silent
from nmg.runs.inputs import origin
from nmg.seeding import StreamName
from nmg.settings import MaskingSettings
from nmg.tasks.load import load_corpus_texts
from nmg.types import IntArray, Outcome
from nmg.workbench import Workbench

FINE_TUNINGS = 2
"""of each adapted model, with heads and orders of their own: the difference of two is the noise of one"""
SPREAD = ExperimentSettings().spread
"""of the weights of a random direction: that of the directions which the learner would explore"""
_SLOW_FEATURES = {"usual_loss", "usual_entropy", "concentration"}
"""they cost forward passes of the LM, or a fit to the labelled examples"""
MAX_FEATURES = tuple(name for name in LinearSettings().features if name not in _SLOW_FEATURES)
Measure: TypeAlias = Literal["probe", "finetune"]


@dataclass(frozen=True)
class PlayKey:
    seed: int
    masking: str
    """none, a rule, idf-N (sharpness N), or direction-N"""
    steps: int
    learning_rate: float
    examples: int
    """labelled examples of the fine-tunings and of the probe"""

    @property
    def name(self) -> str:
        return f"{self.masking} · {self.steps} steps · lr {self.learning_rate:g} · seed {self.seed}"


@dataclass(frozen=True)
class Played:
    key: PlayKey
    probe: Mapping[str, float]
    """metric → score of a linear probe on frozen features"""
    finetune: Sequence[Mapping[str, float]]
    """metric → score of each fine-tuning; none where the encoder stays frozen (`test.measure probe`)"""
    lm_loss: float | None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """adapt, probe, finetune (one, scored), and scoring: what of the probe and of all fine-tunings goes to the
    validation set, whatever the number of labelled examples"""
    diverged: str = ""
    """what happened, where a training diverged; there are no scores then"""
    origin: Mapping[str, str] = field(default_factory=dict)
    """digests of all that gives the play beside its key: settings, data, model"""

    @property
    def counted(self) -> Sequence[Mapping[str, float]]:
        """The full score: of each fine-tuning, or of the probe where there are none."""
        return self.finetune or (self.probe,)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "diverged" or value}

    @classmethod
    def from_json(cls, line: str | bytes) -> "Played":
        """Raises ValueError for a line that is no play."""
        return TypeAdapter(cls).validate_json(line)


@dataclass(frozen=True)
class AuditBench:
    """A workplace: all that the plays of an audit share."""

    config: Config
    bench: Workbench
    pretrained: ModelState
    corpus: Corpus
    train: Encoded
    validation: Encoded
    linear: LinearPolicy

    @classmethod
    def open(cls, config: Config, reporter: Reporter, *, is_checked: bool = False) -> "AuditBench":
        """Read and check everything, warm up a missing head. The test set is not read.

        Args:
            config: The settings of the audit.
            reporter: Told of what a user should know.
            is_checked: Whether another process has done the preflight already.

        Returns:
            The workplace; its settings have the precision that the preflight found to work.

        Raises:
            UserError: Settings, data or model do not fit.
        """
        config = config.model_copy(update={"data": config.data.model_copy(update={"test": None})}).for_meta_test()
        bench = Workbench.open_all(config, reporter)
        bench = (bench if is_checked else bench.preflight()).with_head()
        config = bench.config
        corpus = bench.corpus(load_corpus_texts(config.data))
        split = bench.split()
        seen = set(split.train_context_ids.tolist())
        labelled = [example for example in bench.data.train if example.context_id in seen]
        settings = LinearSettings(features=MAX_FEATURES)
        return cls(
            config,
            bench,
            copy_state(bench.lm.model),
            corpus,
            Encoded.of(bench.task, labelled),
            Encoded.of(bench.task, split.validation_examples),
            LinearPolicy.from_settings(settings, bench.policy_ground(corpus, labelled)),
        )

    @cached_property
    def origin(self) -> dict[str, str]:
        return origin(self.config, ("train", "validation"), self.corpus.digest, self.bench.lm, self.pretrained)

    def origin_of(self, masking: str) -> dict[str, str]:
        """Digests of all that gives a play of this masking, what the masking reads included."""
        rule = masking if masking in RULES else ""  # idf-N and direction-N read nothing but settings and corpus
        return {**self.origin, **(masking_identity(rule, self.config.masking) if rule else {})}

    def rows(self, examples: int) -> IntArray:
        """Rows of so many training examples; those of a smaller number are among those of a larger."""
        order = (StreamName(self.config.run.seed) / "audit" / "examples").generator()
        chosen = order.permutation(len(self.train.examples))[:examples]
        return np.flatnonzero(np.isin(self.train.features.example_index, chosen))

    @property
    def steps_an_epoch(self) -> int:
        return -(-len(self.corpus) // self.config.adapt.batch_size)

    def play(self, _shared: None, job: PlayKey) -> Played:
        arena = replace(self.bench.arena.silent(), adapt=self._adapt_settings(job))
        masks = None if job.masking == "none" else DrawnMasks(self.corpus, self._masking(job))
        rows = self.rows(job.examples)
        probed = Trial(self.bench.task, self.train, rows, self.validation, "probe")
        times = FINE_TUNINGS if self.config.test.measure == "finetune" else 0
        tuned = [replace(probed, measure="finetune", again=again) for again in range(times)]
        randomness = StreamName(self.config.run.seed) / "audit" / job.seed
        try:
            first, *others = inner_loop(arena, self.pretrained, masks, [probed, *tuned], randomness, job.steps)
        except Diverged as error:
            return Played(job, {}, [], None, diverged=str(error))
        scored = len(self.validation.features)
        reading = first.seconds["finetune"] * scored / (scored + len(rows))  # a probe reads both sets alike
        return Played(
            job,
            dict(first.scores),
            [dict(outcome.scores) for outcome in others],
            first.lm_loss if masks is not None else None,
            {
                "adapt": first.seconds["adapt"],
                "probe": first.seconds["finetune"],
                "finetune": sum(map(_seconds, others)) / max(len(others), 1),
                "scoring": reading + sum(outcome.seconds["evaluate"] for outcome in others),
            },
        )

    def _adapt_settings(self, job: PlayKey) -> Any:
        return self.config.adapt.model_copy(update={"learning_rate": job.learning_rate})

    def _masking(self, job: PlayKey) -> Masking:
        kind, _, number = job.masking.partition("-")
        if kind == "direction":
            policy = LinearPolicy(self.linear.config)
            policy.load_state_dict(self.linear.state_dict())
            weights = (StreamName(self.config.run.seed) / "audit" / "direction" / int(number)).generator()
            with torch.no_grad():
                policy.weights.copy_(torch.from_numpy(SPREAD * weights.standard_normal(len(policy.weights))))
            return PolicyMasking(policy, greedy=False, name=job.masking)
        settings: MaskingSettings = self.config.masking
        if kind == "idf" and number:
            settings = settings.model_copy(update={"idf_sharpness": float(number), "idf_unit": "piece"})
            return build_masking("idf", self.bench.lm.tokenizer, self.corpus, settings)
        return build_masking(job.masking, self.bench.lm.tokenizer, self.corpus, settings)


def _seconds(outcome: Outcome) -> float:
    return outcome.seconds["finetune"] + outcome.seconds["evaluate"]


@dataclass(frozen=True)
class AuditOpener:
    """Makes the same workplace in another process, from files and caches."""

    config: Config

    def open(self, threads: int) -> AuditBench:
        runtime = self.config.runtime.model_copy(update={"threads": threads})
        return AuditBench.open(self.config.model_copy(update={"runtime": runtime}), Silent(), is_checked=True)
