"""CMA-ES: candidates are drawn from a Gaussian in the weights, and its mean and covariance follow the better ones.

By the package `cmaes` (arXiv 2402.01373), with learning rates that adapt to the noise of scores (arXiv 2304.03473). The
mean is handed out, never the best candidate seen: under noise that is mostly the luckiest. All candidates of an episode
draw under the same noise, so they differ in their weights alone. Meant for a policy of few weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from nmg.errors import UserError
from nmg.learners.base import Ground, LearnerCapabilities, NothingToTell, Saved
from nmg.learners.search import candidate_name, first_policy, propose_candidates, weights_of
from nmg.seeding import stream_seed
from nmg.settings import Count, Positive, Section
from nmg.types import Episode, FloatArray, MaskPlan, Outcome, StateEncoder, TokenBlocks

MOST_WEIGHTS = 1000
"""The covariance and its decomposition take seconds and hundreds of megabytes beyond it."""


class EvolutionSettings(Section):
    kind: Literal["evolution"] = "evolution"
    candidates: Annotated[Count, Field(ge=4)] | None = None
    """policies an episode; for W weights 4 + ⌊3 ln W⌋ where not given, as usual with CMA-ES"""
    spread: Positive = 1.0
    """standard deviation of their weights around the mean in the first episode"""

    has_leader: ClassVar = False
    needs_linear: ClassVar = False
    learns_words: ClassVar = True


class Evolution(NothingToTell):
    def __init__(self, settings: EvolutionSettings, ground: Ground) -> None:
        """Raises UserError if the policy has no weights, or more than `MOST_WEIGHTS`."""
        self.settings, self.ground = settings, ground
        self.policy = first_policy(ground)
        self._seed = stream_seed(ground.randomness.seed, *ground.randomness.path, "candidates")
        self._start: list[float] = weights_of(self.policy).cpu().double().tolist()
        _check_number(len(self._start))
        self._history: list[dict[str, Any]] = []
        """a generation an episode: `candidates`, their weights, and `scores`"""
        self._optimiser = self._replay()
        self.capabilities = LearnerCapabilities(max_players=int(self._optimiser.population_size))

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan]:
        candidates = {name: self._as_weights(one) for name, one in self._candidates().items()}
        return propose_candidates(self.policy, candidates, self.ground, episode, blocks, encode)

    def learn(self, episode: Episode, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:  # noqa: ARG002
        """A candidate whose training diverged counts as the worst of the others. Raises ValueError for a NaN score."""
        candidates, before = self._candidates(), self._mean()
        known = {name: self.ground.score(outcome) for name, outcome in outcomes.items()}
        worst = min(known.values(), default=0.0)
        scores = {name: known.get(name, worst) for name in candidates}
        if any(map(math.isnan, scores.values())):
            raise ValueError(f"cannot compare the scores {scores}")
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

    def save(self) -> Saved:
        """All that was asked and told, from which the optimiser is made again."""
        facts = {"seed": self._seed, "start": self._start, "history": list(self._history)}
        return Saved({"policy": self.policy.state_dict()}, facts)

    def restore(self, saved: Saved) -> None:
        self.policy.load_state_dict(saved.files["policy"])
        self._seed, self._start = saved.facts["seed"], saved.facts["start"]
        self._history = list(saved.facts["history"])
        self._optimiser = self._replay()
        self._settle()

    def _replay(self) -> Any:
        """The optimiser as the history left it."""
        from cmaes import CMA  # not at the start of the module: it imports scipy

        optimiser = CMA(
            mean=np.array(self._start),
            sigma=self.settings.spread,
            seed=0,  # each generation sets its own
            population_size=self.settings.candidates,
            lr_adapt=True,
        )
        for generation in self._history:
            _tell(optimiser, **generation)
        return optimiser

    def _candidates(self) -> dict[str, FloatArray]:
        """name → weights float64 [W]; follow from seed and history alone, however often they are asked for."""
        self._optimiser.reseed_rng(stream_seed(self._seed, len(self._history)) % 2**32)
        return {candidate_name(number): self._optimiser.ask() for number in range(self._optimiser.population_size)}

    def _mean(self) -> FloatArray:
        mean: FloatArray = self._optimiser.mean.copy()
        return mean

    def _as_weights(self, numbers: FloatArray) -> Tensor:
        return torch.from_numpy(numbers).to(next(self.policy.parameters()))

    def _settle(self) -> None:
        """Hand out the mean. The run may end once the package says that the Gaussian is a point or without bounds."""
        vector_to_parameters(self._as_weights(self._mean()), self.policy.parameters())
        self.is_finished = bool(self._optimiser.should_stop())


def _tell(optimiser: Any, candidates: Sequence[Sequence[float]], scores: Sequence[float]) -> None:
    """Let a generation go into the Gaussian; one in which all score alike tells nothing and is left out."""
    if min(scores) < max(scores):
        # The package minimises.
        optimiser.tell([(np.array(one), -score) for one, score in zip(candidates, scores, strict=True)])


def _check_number(n_weights: int) -> None:
    if n_weights == 0:
        raise UserError("learner.kind evolution: the policy has no weights to learn")
    if n_weights > MOST_WEIGHTS:
        raise UserError(
            f"learner.kind evolution takes a policy of at most {MOST_WEIGHTS} weights, and this one has {n_weights}: "
            "use policy.kind linear"
        )
