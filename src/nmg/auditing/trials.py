"""A trial of the audit: adapt a fresh LM under a masking, then measure it in every way that could serve as a reward."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from pydantic import TypeAdapter

from nmg.base.errors import Diverged
from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings
from nmg.base.types import IntArray, Outcome
from nmg.config import Config
from nmg.data.corpus import Corpus
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.masking.base import Masking
from nmg.masking.registry import RULES, build_masking
from nmg.policies.linear import LinearPolicy, LinearSettings
from nmg.policies.maskings import masking_identity
from nmg.policies.sampling import PolicyMasking
from nmg.training.lm import ModelState, copy_state
from nmg.training.masks import DrawnMasks
from nmg.trials.provenance import provenance
from nmg.trials.session import Session
from nmg.trials.trial import Encoded, Trial, inner_loop

FINE_TUNINGS = 2
"""Number of fine-tunings per adapted model, each with a different head and order; their difference measures noise."""
SPREAD = ExperimentSettings().std
"""Standard deviation of the weights of a random direction; the same as in the learner's exploration."""
_SLOW_FEATURES = {"usual_loss", "usual_entropy", "concentration"}
"""Features that need forward passes of the LM, or a fit to the labelled examples."""
MAX_FEATURES = tuple(name for name in LinearSettings().features if name not in _SLOW_FEATURES)
"""Features of random directions."""
Measure: TypeAlias = Literal["probe", "finetune"]


@dataclass(frozen=True)
class PlayKey:
    """Identifies one trial of an audit."""

    seed: int
    masking: str
    """Name of the masking: none, a rule, idf-N (exponent N), or direction-N."""
    steps: int
    """Number of adaptation steps."""
    learning_rate: float
    """Learning rate of the adaptation."""
    examples: int
    """Number of labelled examples for the fine-tunings and the probe."""

    @property
    def name(self) -> str:
        """Description of the trial for messages."""
        return f"{self.masking} · {self.steps} steps · lr {self.learning_rate:g} · seed {self.seed}"


@dataclass(frozen=True)
class Played:
    """The scores and the cost of one trial."""

    key: PlayKey
    probe: Mapping[str, float]
    """Metric → score of a linear probe on frozen features."""
    finetune: Sequence[Mapping[str, float]]
    """Metric → score, for each fine-tuning; empty if the encoder stays frozen (`test.evaluation linear-probe`)."""
    lm_loss: float | None
    """Mean masked-LM loss of the adaptation, in nats; None without adaptation."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time in seconds: `adapt`, `probe`, `finetune` (one, with scoring), and `scoring`.

    `scoring` is the time that the probe and all fine-tunings spend on the validation set. It does not depend on the
    number of labelled examples.
    """
    diverged: str = ""
    """What happened if a training diverged; there are no scores then. Otherwise empty."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Digests of everything that determines the trial in addition to its key: settings, data, model."""

    @property
    def counted(self) -> Sequence[Mapping[str, float]]:
        """The scores that count: those of each fine-tuning, or those of the probe if there are no fine-tunings."""
        return self.finetune or (self.probe,)

    def to_json(self) -> dict[str, Any]:
        """The line of the trial in trials.jsonl."""
        return {name: value for name, value in asdict(self).items() if name != "diverged" or value}

    @classmethod
    def from_json(cls, line: str | bytes) -> "Played":
        """Parse a line of trials.jsonl. Raises ValueError for an invalid line."""
        return TypeAdapter(cls).validate_json(line)


@dataclass(frozen=True)
class AuditWorker:
    """The worker of an audit: everything that its trials share."""

    config: Config
    session: Session
    pretrained: ModelState
    corpus: Corpus
    train: Encoded
    validation: Encoded
    linear: LinearPolicy

    @classmethod
    def open(cls, config: Config, reporter: Reporter, *, is_checked: bool = False) -> "AuditWorker":
        """Read and check everything, and warm up a missing head. The test set is not read.

        Args:
            config: The settings of the audit.
            reporter: Receives messages for the user.
            is_checked: Whether another process has already run the preflight.

        Returns:
            The worker. Its settings have the precision that the preflight found to work.

        Raises:
            UserError: Settings, data or model do not fit together.
        """
        config = config.model_copy(update={"data": config.data.model_copy(update={"test": None})}).for_meta_test()
        session = Session.open_all(config, reporter)
        session = (session if is_checked else session.preflight()).with_head()
        config = session.config
        corpus = session.corpus(session.loaded.corpus_texts)
        split = session.split()
        seen = set(split.train_context_ids.tolist())
        labelled = [example for example in session.data.train if example.context_id in seen]
        settings = LinearSettings(features=MAX_FEATURES)
        return cls(
            config,
            session,
            copy_state(session.lm.model),
            corpus,
            Encoded.of(session.task, labelled),
            Encoded.of(session.task, split.validation_examples),
            LinearPolicy.from_settings(settings, session.policy_ground(corpus, labelled)),
        )

    @classmethod
    def reopen(cls, config: Config, threads: int) -> "AuditWorker":
        """Open the same worker in another process, from files and caches, with this number of torch threads."""
        return cls.open(config.with_threads(threads), Silent(), is_checked=True)

    @cached_property
    def provenance(self) -> dict[str, str]:
        """Digests of everything that determines a trial, except for its masking."""
        return provenance(self.config, ("train", "validation"), self.corpus.digest, self.session.lm, self.pretrained)

    def origin_of(self, masking: str) -> dict[str, str]:
        """Digests of everything that determines a trial of this masking, including files that the masking reads."""
        rule = masking if masking in RULES else ""  # idf-N and direction-N read only settings and corpus
        return {**self.provenance, **(masking_identity(rule, self.config.masking) if rule else {})}

    def rows(self, examples: int) -> IntArray:
        """Rows of this number of training examples, int64. Smaller selections are subsets of larger ones."""
        order = (StreamName(self.config.run.seed) / "audit" / "examples").generator()
        chosen = order.permutation(len(self.train.examples))[:examples]
        return np.flatnonzero(np.isin(self.train.features.example_index, chosen))

    @property
    def steps_an_epoch(self) -> int:
        """Number of adaptation steps per epoch."""
        return -(-len(self.corpus) // self.config.adapt.batch_size)

    def run(self, _shared: None, job: PlayKey) -> Played:
        """Run one trial. If a training diverged, the result has no scores and says what happened."""
        context = replace(self.session.context.silent(), adapt=self._adapt_settings(job))
        masks = None if job.masking == "none" else DrawnMasks(self.corpus, self._masking(job))
        rows = self.rows(job.examples)
        probed = Trial(self.session.task, self.train, rows, self.validation, "linear-probe")
        times = FINE_TUNINGS if self.config.test.evaluation == "finetune" else 0
        tuned = [replace(probed, evaluation="finetune", replicate=again) for again in range(times)]
        randomness = StreamName(self.config.run.seed) / "audit" / job.seed
        try:
            first, *others = inner_loop(context, self.pretrained, masks, [probed, *tuned], randomness, job.steps)
        except Diverged as error:
            return Played(job, {}, [], None, diverged=str(error))
        scored = len(self.validation.features)
        # The probe spends the same time per row on both sets.
        reading = first.seconds["finetune"] * scored / (scored + len(rows))
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
            settings = settings.model_copy(update={"idf_exponent": float(number), "idf_unit": "piece"})
            return build_masking("idf", self.session.lm.tokenizer, self.corpus, settings)
        return build_masking(job.masking, self.session.lm.tokenizer, self.corpus, settings)


def _seconds(outcome: Outcome) -> float:
    return outcome.seconds["finetune"] + outcome.seconds["evaluate"]
