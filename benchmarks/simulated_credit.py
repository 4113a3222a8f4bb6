"""Where should gradient credit enter an experiment? Worlds as in `benchmarks.learners`, with a simulated credit.

    python -m benchmarks.simulated_credit [--parts explore,level,whole] [--seeds 10] [--level-seeds 100] [--out FILE]

The credit of a word piece is validity × usefulness + √(1 − validity²) × error + noise. Usefulness is membership in the
planted class, and error is membership in another random class, uncorrelated with it; both have deviation 1 over the
tokens of the text. The noise differs from piece to piece, such that two halves of the measurement agree with r = .93.
Since both classes move alike when a policy changes, validity is also about the correlation over mirrored pairs between
credit and scores, noise in the scores aside. Prototypes on real data saw .66 on one data set and 0 on another.

*explore*: the gain that the learned direction at the largest strength has after k plays of exploring. *whole*: what
whole runs hand out. *level*: how often whole runs hand out a policy though masks do nothing. Written to
benchmarks/out/simulated_credit.json, seed by seed.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from nmg.base.types import FloatArray
from nmg.learners.base import LearnerContext
from nmg.learners.experiment.gate import POLICY
from nmg.learners.experiment.learner import CREDIT, Experiment
from nmg.learners.experiment.regression import Effects, regress
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.policies.base import Policy
from nmg.policies.linear import LinearPolicy, LinearSettings

VALIDITY, AGREEMENT = 0.66, 0.93
"""of the credit; of two halves of its measurement"""
CONTEXTS = 20
"""of an episode: the chance in what is masked is then small against the noise of a play"""
EXPLORED = 80
"""plays: what a whole run of 200 plays explores"""
CHECKED = (10, 20, 30, 40, 60, EXPLORED)
BUDGETS = (100, 200)
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


@dataclass(frozen=True)
class Way:
    """A way in which credit enters."""

    learner: type[Experiment] = Experiment
    credit_pairs: int = 0


WITHOUT = "without credit"
WAYS: Mapping[str, Way] = {
    WITHOUT: Way(),
    "feature": Way(),
    "wide prior": Way(WidePrior),
    "first pairs": Way(credit_pairs=4),
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
        chosen = WAYS[case.way]
        return chosen.learner(ExperimentSettings(credit_pairs=chosen.credit_pairs, **settings), context)

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


def whole(bench: Bench, case: Case, seed: int, budget: int) -> dict[str, Any]:
    """What a whole run selects, and what that gains; nothing and random masks gain 0."""
    is_class = bench.world.plant(case.kind, seed)
    learner = bench.learner(case, is_class, seed, budget=budget)
    for _ in simulate(Game("", bench.world, CONTEXTS, budget), is_class, case.label, seed, learner):
        pass
    gain = bench.gain(learner.policy, is_class, case.label) if learner.has_policy else 0.0
    return {"selected": learner.state.selected, "gain": round(gain, 4)}


def cases(part: str) -> Iterator[Case]:
    """Each way in each world; with credit that is valid, and with credit that is useless."""
    for kind, label in [("random", "none")] if part == "level" else WORLDS:
        for way in WAYS if part == "explore" else (WITHOUT, "first pairs"):
            for validity in (0.0,) if way == WITHOUT or part == "level" else (VALIDITY, 0.0):
                yield Case(kind, label, way, validity)


def run_seed(bench: Bench, part: str, seed: int) -> Iterator[tuple[str, Any]]:
    """(name, result) of each run of a part with one seed."""
    for case in cases(part):
        if part == "explore":
            yield case.name, explored(bench, case, seed)
            continue
        for budget in BUDGETS if part == "whole" else BUDGETS[-1:]:
            yield f"{case.name}, {budget} plays", whole(bench, case, seed, budget)


def exploring_rows(found: Mapping[str, Sequence[Sequence[float]]]) -> Iterator[str]:
    """Mean gains, and the plays after which they reach that without credit after all plays.

    The last column is the gain after all plays less that without credit, with the standard error of pairs of seeds.
    """
    yield "| world, way, validity | " + " | ".join(map(str, CHECKED)) + " | plays needed | less without credit |"
    yield "|---|" + "---:|" * (len(CHECKED) + 2)
    for name, gains in found.items():
        base = np.array(found[f"{name.split(',')[0]}, {WITHOUT}"])
        means, last = np.mean(gains, axis=0), np.array(gains)[:, -1] - base[:, -1]
        reached = [plays for plays, mean in zip(CHECKED, means, strict=True) if mean >= base[:, -1].mean()]
        needed = str(reached[0]) if reached else f"> {CHECKED[-1]}"
        error = last.std(ddof=1) / np.sqrt(len(last)) if len(last) > 1 else np.nan
        numbers = " | ".join(f"{mean:.2f}" for mean in means)
        yield f"| {name} | {numbers} | {needed} | {last.mean():+.2f} ± {error:.2f} |"


def whole_rows(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Mean gain of what was selected, and how often that was a policy, with an exact interval."""
    yield "| world, way, validity, plays | gain | policy | seeds | 95 % |"
    yield "|---|---:|---:|---:|---|"
    for name, runs in found.items():
        policies, gain = sum(run["selected"] == POLICY for run in runs), np.mean([run["gain"] for run in runs])
        interval = stats.binomtest(policies, len(runs)).proportion_ci(method="exact")
        yield f"| {name} | {gain:.2f} | {policies} | {len(runs)} | {100 * interval.low:.1f}–{100 * interval.high:.1f} |"


def tables(results: Mapping[str, Mapping[str, Sequence[Any]]]) -> Iterator[str]:
    """Markdown of all parts."""
    for part, found in results.items():
        yield f"\n{part}\n"
        yield from exploring_rows(found) if part == "explore" else whole_rows(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Where should gradient credit enter an experiment?")
    parser.add_argument("--parts", default="explore,level,whole")
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
                for name, result in run_seed(bench, part, seed):
                    found.setdefault(name, []).append(result)
                write_text(words.out, json.dumps(results, indent=1) + "\n")
    print("\n".join(tables(results)))


if __name__ == "__main__":
    main()
