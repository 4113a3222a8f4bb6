"""The gradient credit of a run: measured once if the policy has the feature `credit`, and cached."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from nmg.base.files import as_json, default_cache_dir, save_tensors, write_text
from nmg.base.seeding import StreamName
from nmg.base.types import Episode
from nmg.config import Config
from nmg.data.corpus import Corpus
from nmg.policies.base import PolicyContext
from nmg.policies.features import FEATURES, TypeFeature, Vocabulary, piece_table
from nmg.policies.linear import LinearSettings
from nmg.training.lm import ModelState, restore_state
from nmg.trials.credit import CreditJob, CreditWorker, PieceCredit, measure_credit
from nmg.trials.episode import EpisodeRunner
from nmg.trials.provenance import input_digests
from nmg.trials.session import Session

VERSION = 2
"""Raised when the measurement changes, so that cached credit is not used."""
FEW_EXAMPLES = 500
"""Number of validation examples below which nmg warns. With 230, credit raised the score of the gate and not that of
test texts; with 1000, it raised both (docs/results/credit.md)."""
FIRST_EPISODE = 1_000_000
"""Number of the first episode whose contexts credit is measured on. Episodes of the learner never reach it."""


class RunCredit:
    """Credit of word pieces in one meta-training.

    Args:
        session: The session of the run.
        corpus: The corpus of the run.
        runner: The runner of inner loops.
        start: Weights of the LM before any adaptation.
        sample: Returns the episode with a number.
    """

    def __init__(
        self,
        session: Session,
        corpus: Corpus,
        runner: EpisodeRunner,
        start: ModelState,
        sample: Callable[[int], Episode],
    ) -> None:
        self._session, self._corpus, self._runner, self._start, self._sample = session, corpus, runner, start, sample
        self._measured: PieceCredit | None = None
        self._words: list[str] = []

    def given_to(self, ground: PolicyContext) -> PolicyContext:
        """Return the context of the policy with the credit, which is measured when a policy first asks for it."""
        settings = self._session.config.policy
        if not isinstance(settings, LinearSettings) or "credit" not in settings.features:
            return ground
        return replace(ground, credit=lambda: self._of_pieces(settings, ground).credit)

    def findings(self) -> dict[str, Any]:
        """Return the entry of effects.json; empty if no credit was measured."""
        return {} if self._measured is None else {"credit": self._measured.to_json(self._words)}

    def _of_pieces(self, settings: LinearSettings, ground: PolicyContext) -> PieceCredit:
        """Return the credit: measured before, from the cache, or measured now."""
        if self._measured is None:
            vocabulary, cached = Vocabulary(ground), self._file()
            self._words = vocabulary.words
            self._measured = _load(cached)
            if self._measured is None:
                self._measured = self._measure(settings, vocabulary)
                _save(self._measured, cached)
        return self._measured

    def _measure(self, settings: LinearSettings, vocabulary: Vocabulary) -> PieceCredit:
        config, reporter, n_rounds = self._session.config, self._session.reporter, settings.credit_rounds
        reporter.notify(f"measuring the gradient credit of word pieces in {n_rounds} adaptations")
        n = len(self._runner.validation.examples)
        if n < FEW_EXAMPLES and settings.credit_examples == "validation":
            reporter.notify(
                f"warning: credit can fit the {n} validation examples, and the gate scores the same ones. Use at least "
                f"{FEW_EXAMPLES}, or set policy.credit_examples training."
            )
        names = [name for name in settings.features if isinstance(FEATURES[name], TypeFeature) and name != "credit"]
        worker = CreditWorker(self._runner, config.reward.evaluation, settings.credit_examples)
        jobs = [self._job(number) for number in range(n_rounds)]
        others, progress = piece_table(names, vocabulary), reporter.steps("gradient credit")
        try:
            return measure_credit(worker, config.runtime, self._start, jobs, others, progress)
        finally:
            restore_state(self._runner.context.model, self._start)

    def _job(self, number: int) -> CreditJob:
        episode = self._sample(FIRST_EPISODE + number)
        randomness = StreamName(self._session.config.run.seed) / "credit" / number
        return CreditJob(episode, self._corpus.blocks(episode.block_ids), randomness)

    def _file(self) -> Path:
        """Return the cache file for the settings of a round, and the data, model and arithmetic of this run."""
        session, runtime = self._session, self._runner.context.runtime
        inputs = as_json(dict(input_digests(session)))
        facts = (VERSION, _without_learning(session.config).digest, inputs, runtime.precision, runtime.device.type)
        digest = hashlib.sha256(" ".join(map(str, facts)).encode()).hexdigest()[:20]
        return default_cache_dir(session.config.runtime.cache_dir) / f"credit-{digest}.safetensors"


def _without_learning(config: Config) -> Config:
    """Return a copy in which the settings that no round reads have their defaults."""
    default = Config()
    counts = {name: getattr(default.meta, name) for name in ("episodes", "parallel_episodes", "checkpoint_every")}
    meta = config.meta.model_copy(update=counts)
    return config.model_copy(update={"learner": default.learner, "test": default.test, "meta": meta})


def _load(file: Path) -> PieceCredit | None:
    """Return the credit in a cache file, or None if there is none."""
    facts = file.with_suffix(".json")
    if not (file.is_file() and facts.is_file()):
        return None
    tensors = load_file(file)
    return PieceCredit(tensors["credit"].numpy(), tensors["counts"].numpy(), **json.loads(facts.read_text("utf-8")))


def _save(found: PieceCredit, file: Path) -> None:
    """Write the credit to a cache file."""
    facts = {"reliability": found.reliability, "rounds": found.rounds, "seconds": found.seconds}
    write_text(file.with_suffix(".json"), as_json(facts) + "\n")
    arrays = {"credit": found.credit, "counts": found.counts}
    save_tensors(file, {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()})
