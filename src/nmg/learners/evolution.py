"""CMA-ES: sample candidate weights from a Gaussian whose mean and covariance move towards the better candidates.

The learner uses the package `cmaes` (arXiv 2402.01373), with learning rates that adapt to the noise of the scores
(arXiv 2304.03473). The returned policy is the mean rather than the best candidate, because under noise the best one is
mostly the luckiest one. All candidates of an episode share the sampling noise, so they differ only in their weights.
This learner is intended for policies with few weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from nmg.base.errors import UserError
from nmg.base.section import Count, Positive, Section
from nmg.base.seeding import stream_seed
from nmg.base.trial import TrialResult
from nmg.base.types import Episode, FloatArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.learners.base import LearnerCapabilities, LearnerContext, LearnerDefaults, LearnerState
from nmg.learners.search import candidate_name, first_policy, propose_candidates, weights_of

MOST_WEIGHTS = 1000
"""Maximum number of weights. Beyond it, decomposing the covariance takes seconds and hundreds of megabytes."""


class EvolutionSettings(Section):
    """Settings of CMA-ES."""

    kind: Literal["evolution"] = "evolution"
    candidates: Annotated[Count, Field(ge=4)] | None = None
    """Number of candidates per episode. The default for W weights is 4 + ⌊3 ln W⌋, as is usual for CMA-ES."""
    sigma: Positive = 1.0
    """Standard deviation of the candidates' weights around the mean in the first episode."""

    has_leader: ClassVar = False
    needs_linear: ClassVar = False
    learns_words: ClassVar = True


class Evolution(LearnerDefaults):
    """A learner that optimizes the policy's weights with CMA-ES."""

    def __init__(self, settings: EvolutionSettings, ground: LearnerContext) -> None:
        """Create policy and optimizer. Raises UserError unless the policy has 1 to `MOST_WEIGHTS` weights."""
        self.settings, self.ground = settings, ground
        self.policy = first_policy(ground)
        self._seed = stream_seed(ground.randomness.seed, *ground.randomness.path, "candidates")
        self._start: list[float] = weights_of(self.policy).cpu().double().tolist()
        _check_number(len(self._start))
        self._history: list[dict[str, Any]] = []
        """One generation per episode: the weights of its `candidates` and their `scores`."""
        self._optimiser = self._replay()
        self.capabilities = LearnerCapabilities(max_players=int(self._optimiser.population_size))

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan]:
        """Sample a plan for each candidate of the current generation.

        Args:
            episode: The episode to run.
            blocks: The token blocks of the episode.
            encode: The LM that the policy may observe.

        Returns:
            Player name → plan.
        """
        candidates = {name: self._as_weights(one) for name, one in self._candidates().items()}
        return propose_candidates(self.policy, candidates, self.ground, episode, blocks, encode)

    def learn(self, episode: Episode, outcomes: Mapping[str, TrialResult]) -> dict[str, Any]:  # noqa: ARG002
        """Update the Gaussian with the scores of an episode.

        A candidate whose training diverged gets the worst score of the others. Raises ValueError if a score is NaN.
        """
        candidates, before = self._candidates(), self._mean()
        known = {name: self.ground.score(outcome) for name, outcome in outcomes.items()}
        worst = min(known.values(), default=0.0)
        scores = {name: known.get(name, worst) for name in candidates}
        if any(map(math.isnan, scores.values())):
            raise ValueError(f"cannot compare the scores {scores}: one of them is NaN")
        generation = {"candidates": [one.tolist() for one in candidates.values()], "scores": list(scores.values())}
        _tell(self._optimiser, **generation)
        self._history.append(generation)
        self._settle()
        deviations = np.stack(list(candidates.values())) - before
        return {
            "best": max(scores, key=scores.__getitem__),
            "step": float(np.linalg.norm(self._mean() - before)),
            "spread": float(np.sqrt(np.square(deviations).mean())),
        }

    def save(self) -> LearnerState:
        """Return the seed, the start and all generations, from which `restore` rebuilds the optimizer."""
        facts = {"seed": self._seed, "start": self._start, "history": list(self._history)}
        return LearnerState({"policy": self.policy.state_dict()}, facts)

    def restore(self, saved: LearnerState) -> None:
        """Restore the policy, and rebuild the optimizer from its history."""
        self.policy.load_state_dict(saved.files["policy"])
        self._seed, self._start = saved.facts["seed"], saved.facts["start"]
        self._history = list(saved.facts["history"])
        self._optimiser = self._replay()
        self._settle()

    def _replay(self) -> Any:
        """Return a new optimizer that has processed all generations of the history."""
        from cmaes import CMA  # imported late because it imports scipy

        optimiser = CMA(
            mean=np.array(self._start),
            sigma=self.settings.sigma,
            seed=0,  # `_candidates` reseeds the generator for each generation
            population_size=self.settings.candidates,
            lr_adapt=True,
        )
        for generation in self._history:
            _tell(optimiser, **generation)
        return optimiser

    def _candidates(self) -> dict[str, FloatArray]:
        """Return candidate name → weights, float64 [W]. Calls before the next generation return equal weights."""
        self._optimiser.reseed_rng(stream_seed(self._seed, len(self._history)) % 2**32)
        return {candidate_name(number): self._optimiser.ask() for number in range(self._optimiser.population_size)}

    def _mean(self) -> FloatArray:
        mean: FloatArray = self._optimiser.mean.copy()
        return mean

    def _as_weights(self, numbers: FloatArray) -> Tensor:
        return torch.from_numpy(numbers).to(next(self.policy.parameters()))

    def _settle(self) -> None:
        """Set the policy to the mean; the run may end once `cmaes` reports that the Gaussian collapsed or diverged."""
        vector_to_parameters(self._as_weights(self._mean()), self.policy.parameters())
        self.is_finished = bool(self._optimiser.should_stop())


def _tell(optimiser: Any, candidates: Sequence[Sequence[float]], scores: Sequence[float]) -> None:
    """Update the Gaussian with a generation. Generations in which all scores are equal are skipped."""
    if min(scores) < max(scores):
        # `cmaes` minimizes.
        optimiser.tell([(np.array(one), -score) for one, score in zip(candidates, scores, strict=True)])


def _check_number(n_weights: int) -> None:
    if n_weights == 0:
        raise UserError("learner.kind evolution: the policy has no weights to learn: choose another policy.kind")
    if n_weights > MOST_WEIGHTS:
        raise UserError(
            f"learner.kind evolution: the policy may have at most {MOST_WEIGHTS} weights, but it has {n_weights}: set "
            "policy.kind linear"
        )
