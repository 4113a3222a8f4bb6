"""Where should gradient credit enter an experiment? Worlds as in `benchmarks.learners`, with a simulated credit.

    python -m benchmarks.simulated_credit [--parts explore,level] [--seeds 6] [--level-seeds 100] [--out FILE]

The credit of a word piece is validity × usefulness + √(1 − validity²) × error + noise. Usefulness is membership in the
planted class, and error is membership in another random class, uncorrelated with it; both have deviation 1 over the
tokens of the text. The noise differs from piece to piece, such that two halves of the measurement agree with r = .93.
Both classes move alike when a policy changes. So validity is also about the correlation over mirrored pairs between
credit and scores, apart from the noise of scores. A prototype saw .66 on one data set, and 0 on another.

*explore*: the gain that the learned direction at the largest strength has after k plays of exploring. *level*: how
often a whole run of 200 plays selects a policy though masks do nothing. Both are written to
benchmarks/out/simulated_credit.json, one number per seed, and printed as tables.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from benchmarks.learners import CLASS_SHARE, EFFECTS, FEATURES, RATE, Game, World, make_world, share, simulate
from nmg.base.files import write_text
from nmg.base.seeding import StreamName
from nmg.base.types import Episode, FloatArray
from nmg.learners.base import LearnerContext
from nmg.learners.experiment.gate import POLICY
from nmg.learners.experiment.learner import Experiment
from nmg.learners.experiment.regression import Effects, regress
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.policies.base import Policy
from nmg.policies.linear import LinearPolicy, LinearSettings

CREDIT = "credit"
VALIDITY, AGREEMENT = 0.66, 0.93
"""of the credit; of two halves of its measurement"""
CONTEXTS = 20
"""of an episode: the chance in what is masked is then small against the noise of a play"""
EXPLORED = 80
"""plays: what a whole run of 200 plays explores"""
CHECKED = (10, 20, 30, 40, 60, EXPLORED)
PRIOR = 10.0
"""variance of the weight of credit around 0, in units of that of other weights"""
WORLDS = (("rare", "0.85"), ("rare", "0.4"), ("random", "0.85"), ("random", "0.4"))
"""planted class, effect"""
OUT = Path("benchmarks/out/simulated_credit.json")


class WidePrior(Experiment):
    """Expects a larger effect of credit than of other features."""

    def effects(self) -> Effects:
        """A prior mean along credit of unknown size: the scale of credit is that of its effect's prior."""
        found, (x, y) = super().effects(), self.state.rows()
        scale = np.array([PRIOR**0.5 if name == CREDIT else 1.0 for name in self._template.config.features])
        wide = regress(x * scale, y)
        return replace(found, mean=wide.mean * scale, covariance=wide.covariance * np.outer(scale, scale))


class FirstPairs(Experiment):
    """Tries credit alone in its first pairs, with as much weight as random directions have on average."""

    pairs = 4

    def _players(self, episode: Episode) -> dict[str, LinearPolicy | None]:
        if self.state.stage != "explore" or episode.index >= self.pairs:
            return super()._players(episode)
        features = self._template.config.features
        direction = self.settings.std * np.sqrt(len(features)) * np.array([name == CREDIT for name in features])
        return {"plus": self._weighted(direction), "minus": self._weighted(-direction)}


class TwoPairs(FirstPairs):
    pairs = 2


WITHOUT = "without credit"
WAYS: Mapping[str, type[Experiment]] = {
    WITHOUT: Experiment,
    "feature": Experiment,
    "wide prior": WidePrior,
    "first two pairs": TwoPairs,
    "first four pairs": FirstPairs,
}


@dataclass(frozen=True)
class Case:
    """One world and one way in which credit enters."""

    kind: str
    label: str
    way: str
    validity: float

    @property
    def name(self) -> str:
        return f"{self.kind} {self.label}, {self.way}" + (f", {self.validity:g}" if self.way != WITHOUT else "")


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    world: World
    policy: LinearPolicy
    """over all features and credit, whose column is still empty"""

    @classmethod
    def new(cls, cache: Path) -> "Bench":
        world = make_world(cache, "small", with_states=False)
        settings = LinearSettings(features=(*FEATURES, CREDIT))
        return cls(world, LinearPolicy.from_settings(settings, world.policy_ground))

    @torch.no_grad()
    def policy_of(self, credit: FloatArray) -> LinearPolicy:
        """A new policy with this credit, which is standardised as `LinearPolicy.from_settings` does."""
        policy, weights = copy.deepcopy(self.policy), token_weights(self.world)
        mean = float(weights @ credit)
        policy.table[:, -1] = torch.from_numpy(credit)
        policy.mean[-1], policy.deviation[-1] = mean, float(np.sqrt(weights @ (credit - mean) ** 2))
        return policy

    def learner(self, case: Case, is_class: Tensor, seed: int, **settings: Any) -> Experiment:
        """A new learner on which credit enters in one of `WAYS`."""
        policy = self.world.linear
        if case.way != WITHOUT:
            policy = self.policy_of(simulated_credit(self.world, is_class, case.validity, seed))
        context = LearnerContext(
            new_policy=lambda: copy.deepcopy(policy),
            rate=RATE,
            score=lambda outcome: outcome.score("score"),
            randomness=StreamName(seed),
            device=torch.device("cpu"),
        )
        return WAYS[case.way](ExperimentSettings(**settings), context)

    def gain(self, policy: Policy, is_class: Tensor, label: str) -> float:
        """What the policy's masks score over random ones, without noise."""
        among = share(self.world, policy, is_class, greedy=False)
        return EFFECTS[label] * (among - CLASS_SHARE) / (1 - CLASS_SHARE)


def token_weights(world: World) -> FloatArray:
    """float64 [V]: share of each word piece among the tokens of the text."""
    weights: FloatArray = world.counts / world.counts.sum()
    return weights


def simulated_credit(world: World, is_class: Tensor, validity: float, seed: int) -> FloatArray:
    """float64 [V]: credit of all word pieces, as the docstring of this file says."""
    weights, stream = token_weights(world), StreamName(seed) / "credit"

    def standard(values: FloatArray) -> FloatArray:
        centred = values - weights @ values
        scaled: FloatArray = centred / np.sqrt(weights @ centred**2)
        return scaled

    useful = standard(is_class.numpy().astype(np.float64))
    other = int((stream / "class").generator().integers(2**31))
    error = standard(world.plant("random", other).numpy().astype(np.float64))
    error = standard(error - (weights @ (error * useful)) * useful)
    # Each half has twice the noise variance of the whole, and correlates with the other by 1 / (1 + 2 variance).
    noise = np.sqrt((1 / AGREEMENT - 1) / 2) * (stream / "noise").generator().standard_normal(len(weights))
    credit: FloatArray = validity * useful + np.sqrt(1 - validity**2) * error + noise
    return credit


def explored(bench: Bench, case: Case, seed: int) -> list[float]:
    """The gain of the learned direction after each of `CHECKED` plays, of a run that does not stop exploring."""
    is_class = bench.world.plant(case.kind, seed)
    learner = bench.learner(case, is_class, seed, budget=10 * EXPLORED, early_stop_alpha=0.0)
    game, gains = Game("", bench.world, CONTEXTS, EXPLORED), []
    for plays, _ in simulate(game, is_class, case.label, seed, learner):
        if plays in CHECKED:
            gains.append(round(bench.gain(learner.best_guess(), is_class, case.label), 4))
    return gains


def selected(bench: Bench, case: Case, seed: int) -> str:
    """What a whole run selects."""
    is_class = bench.world.plant(case.kind, seed)
    learner = bench.learner(case, is_class, seed)
    game = Game("", bench.world, CONTEXTS, learner.settings.budget)
    for _ in simulate(game, is_class, case.label, seed, learner):
        pass
    return learner.state.selected


def cases(part: str) -> Iterator[Case]:
    """Each way in each world; with credit that is valid, and with credit that is useless."""
    for kind, label in [("random", "none")] if part == "level" else WORLDS:
        for way in (WITHOUT, "feature") if part == "level" else WAYS:
            for validity in (0.0,) if way == WITHOUT or part == "level" else (VALIDITY, 0.0):
                yield Case(kind, label, way, validity)


def exploring_rows(found: Mapping[str, Sequence[Sequence[float]]]) -> Iterator[str]:
    """Mean gains, and the plays after which they reach that without credit after all plays."""
    yield "| world, way, validity | " + " | ".join(map(str, CHECKED)) + " | plays needed |"
    yield "|---|" + "---:|" * (len(CHECKED) + 1)
    for case in cases("explore"):
        means = np.mean(found[case.name], axis=0)
        target = np.mean(found[replace(case, way=WITHOUT).name], axis=0)[-1]
        reached = [plays for plays, mean in zip(CHECKED, means, strict=True) if mean >= target]
        needed = str(reached[0]) if reached else f"> {CHECKED[-1]}"
        yield f"| {case.name} | " + " | ".join(f"{mean:.2f}" for mean in means) + f" | {needed} |"


def pooled_rows(found: Mapping[str, Sequence[Sequence[float]]]) -> Iterator[str]:
    """Gain less that without credit, as a percentage of the effect: mean over worlds, with the error over seeds."""
    yield "| way, validity | " + " | ".join(map(str, CHECKED)) + " |"
    yield "|---|" + "---:|" * len(CHECKED)
    relative: dict[tuple[str, float], list[FloatArray]] = {}
    for case in cases("explore"):
        if case.way != WITHOUT:
            more = np.array(found[case.name]) - np.array(found[replace(case, way=WITHOUT).name])
            relative.setdefault((case.way, case.validity), []).append(100 * more / EFFECTS[case.label])
    for (way, validity), worlds in relative.items():
        of_seeds = np.mean(worlds, axis=0)
        errors = of_seeds.std(axis=0, ddof=1) / np.sqrt(len(of_seeds))
        numbers = [f"{mean:+.0f} ± {error:.0f}" for mean, error in zip(of_seeds.mean(axis=0), errors, strict=True)]
        yield f"| {way}, {validity:g} | " + " | ".join(numbers) + " |"


def level_rows(found: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """How often a policy was selected, with an exact interval (Clopper-Pearson)."""
    yield "| world, way, validity | policy | seeds | 95 % |"
    yield "|---|---:|---:|---|"
    for name, runs in found.items():
        policies = runs.count(POLICY)
        interval = stats.binomtest(policies, len(runs)).proportion_ci(method="exact")
        yield f"| {name} | {policies} | {len(runs)} | {100 * interval.low:.1f}–{100 * interval.high:.1f} |"


def tables(results: Mapping[str, Mapping[str, Sequence[Any]]]) -> Iterator[str]:
    """Markdown of all parts."""
    if "explore" in results:
        yield from [*exploring_rows(results["explore"]), "", *pooled_rows(results["explore"]), ""]
    if "level" in results:
        yield from level_rows(results["level"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Where should gradient credit enter an experiment?")
    parser.add_argument("--parts", default="explore,level")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--level-seeds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=OUT)
    words = parser.parse_args()
    results: dict[str, dict[str, list[Any]]] = json.loads(words.out.read_text()) if words.out.is_file() else {}
    with tempfile.TemporaryDirectory() as cache:
        bench = Bench.new(Path(cache))
        for part in words.parts.split(","):
            found = results[part] = {}
            for seed in range(words.level_seeds if part == "level" else words.seeds):
                for case in cases(part):
                    run: Callable[[Bench, Case, int], Any] = selected if part == "level" else explored
                    found.setdefault(case.name, []).append(run(bench, case, seed))
                write_text(words.out, json.dumps(results, indent=1) + "\n")
    print("\n".join(tables(results)))


if __name__ == "__main__":
    main()
