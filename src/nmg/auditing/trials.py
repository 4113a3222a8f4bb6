"""Runs the trials of an audit: adapts a pretrained LM under a masking, then evaluates it with every possible reward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName
from nmg.base.settings import Evaluation, MaskingSettings
from nmg.base.trial import TrialResult, TrialSpec
from nmg.base.types import IntArray
from nmg.config import Config
from nmg.data.corpus import Corpus
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.masking.base import Masking
from nmg.masking.registry import build_masking
from nmg.policies.linear import LinearPolicy, LinearSettings
from nmg.policies.sampling import PolicyMasking
from nmg.training.batches import batches_per_epoch
from nmg.training.lm import ModelState, copy_state
from nmg.training.masks import DrawnMasks
from nmg.trials.provenance import TrialProvenance, provenance
from nmg.trials.session import Session
from nmg.trials.trial import Encoded, Trial, run_trials

FINE_TUNINGS = 2
"""Number of fine-tuning runs per adapted LM. Each has another task head and batch order; they differ only by noise."""
SPREAD = ExperimentSettings().std
"""Standard deviation of the weights of a random direction, as in the learner's exploration."""
_SLOW_FEATURES = {"usual_loss", "usual_entropy", "concentration"}
"""Features that random directions do not use, because they need forward passes of the LM or the labelled examples."""
MAX_FEATURES = tuple(name for name in LinearSettings().features if name not in _SLOW_FEATURES)
"""Features of random directions."""


def evaluations(spec: TrialSpec, evaluation: Evaluation) -> list[TrialSpec]:
    """Return the evaluations of one adaptation: a frozen encoder, then fine-tuning runs unless it stays frozen.

    Args:
        spec: Masking, seed, condition and learning rate of the adaptation.
        evaluation: How models are evaluated in the end (`test.evaluation`).

    Returns:
        One trial per evaluation.
    """
    times = FINE_TUNINGS if evaluation == "finetune" else 0
    first: Evaluation = "embedding" if evaluation == "embedding" else "linear-probe"
    return [replace(spec, evaluation=first), *(replace(spec, replicate=number) for number in range(times))]


@dataclass(frozen=True)
class AuditTrial:
    """The results of one adaptation with all its evaluations."""

    results: Sequence[TrialResult]
    """The results of `evaluations`, in this order."""

    @property
    def spec(self) -> TrialSpec:
        """Masking, seed, condition and learning rate of the adaptation."""
        return replace(self.results[0].spec, evaluation="finetune")

    @property
    def name(self) -> str:
        """Description of the trial for messages."""
        spec = self.spec
        return f"{spec.masking} · {spec.condition.adapt_steps} steps · lr {spec.learning_rate:g} · seed {spec.seed}"

    @property
    def steps(self) -> int:
        """Requested number of adaptation steps; 0 without adaptation."""
        return self.spec.condition.adapt_steps or 0

    @property
    def learning_rate(self) -> float:
        """Learning rate of the adaptation."""
        assert self.spec.learning_rate is not None, "an audit always chooses it"
        return self.spec.learning_rate

    @property
    def examples(self) -> int:
        """Number of labelled examples for fine-tuning and the probe."""
        return _examples(self.spec)

    @property
    def error(self) -> str | None:
        """Error message of the first evaluation that failed; None if training never diverged."""
        return next((one.error for one in self.results if one.error is not None), None)

    @property
    def probe(self) -> Mapping[str, float]:
        """Metric → score of a linear probe on frozen features, or of embeddings."""
        return self.results[0].scores

    @property
    def finetune(self) -> list[Mapping[str, float]]:
        """Metric → score, for each fine-tuning run; empty if the encoder stays frozen."""
        return [one.scores for one in self.results[1:]]

    @property
    def counted(self) -> Sequence[Mapping[str, float]]:
        """Metric → score, for each fine-tuning run or, if there are none, for the probe only."""
        return self.finetune or (self.probe,)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Wall time in seconds: `adapt`, `probe` and `finetune` (each with scoring; mean of one), and `scoring`.

        `scoring` is the time that the probe and all fine-tunings spend on the validation set. It does not depend on the
        number of labelled examples.
        """
        evaluating = [one.total_seconds - one.adaptation.seconds for one in self.results]
        return {
            "adapt": self.results[0].adaptation.seconds,
            "probe": evaluating[0],
            "finetune": sum(evaluating[1:]) / max(len(evaluating) - 1, 1),
            "scoring": sum(one.phase_seconds["evaluate"] for one in self.results),
        }


@dataclass(frozen=True)
class AuditWorker:
    """The worker of an audit: the session, data and linear policy that its trials share."""

    config: Config
    session: Session
    pretrained: ModelState
    corpus: Corpus
    train: Encoded
    validation: Encoded
    linear: LinearPolicy

    @classmethod
    def open(cls, config: Config, reporter: Reporter, *, is_checked: bool = False) -> "AuditWorker":
        """Read and check all inputs, and warm up a missing head. The test set is not read.

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
        """Open the same worker in another process from files and caches, with `threads` torch threads."""
        return cls.open(config.with_threads(threads), Silent(), is_checked=True)

    @cached_property
    def provenance(self) -> TrialProvenance:
        """The provenance of the trials; the maskings of an audit read only the settings and the corpus."""
        fields = ("train", "validation")
        return TrialProvenance(provenance(self.config, fields, self.corpus.digest, self.session, self.pretrained))

    def rows(self, examples: int) -> IntArray:
        """Return the rows of the model inputs of `examples` training examples, as int64 [n].

        Smaller selections are subsets of larger ones.
        """
        order = (StreamName(self.config.run.seed) / "audit" / "examples").generator()
        chosen = order.permutation(len(self.train.examples))[:examples]
        return np.flatnonzero(np.isin(self.train.features.example_index, chosen))

    @property
    def steps_an_epoch(self) -> int:
        """Number of adaptation steps per epoch."""
        return batches_per_epoch(self.config.adapt, self.corpus.lengths)

    def run(self, _shared: None, job: Sequence[TrialSpec]) -> list[TrialResult]:
        """Adapt once and return one result per evaluation, with an error instead of scores if training diverges."""
        spec = job[0]
        masks = None if spec.masking == "none" else DrawnMasks(self.corpus, self._masking(spec.masking))
        trials = [Trial(one, self.session.task, self.train, self.rows(_examples(spec)), self.validation) for one in job]
        randomness = StreamName(self.config.run.seed) / "audit" / spec.seed
        results = run_trials(self.session.context.silent(), self.pretrained, masks, trials, randomness)
        return [replace(result, example_scores={}) for result in results]

    def _masking(self, name: str) -> Masking:
        kind, _, number = name.partition("-")
        if kind == "direction":
            policy = LinearPolicy(self.linear.config)
            policy.load_state_dict(self.linear.state_dict())
            weights = (StreamName(self.config.run.seed) / "audit" / "direction" / int(number)).generator()
            with torch.no_grad():
                policy.weights.copy_(torch.from_numpy(SPREAD * weights.standard_normal(len(policy.weights))))
            return PolicyMasking(policy, greedy=False, name=name)
        settings: MaskingSettings = self.config.masking
        if kind == "idf" and number:
            settings = settings.model_copy(update={"idf_exponent": float(number), "idf_unit": "piece"})
            return build_masking("idf", self.session.lm.tokenizer, self.corpus, settings)
        return build_masking(name, self.session.lm.tokenizer, self.corpus, settings)


def _examples(spec: TrialSpec) -> int:
    """Return the number of labelled examples of a trial, which an audit always sets."""
    assert isinstance(spec.condition.labelled, int)
    return spec.condition.labelled
