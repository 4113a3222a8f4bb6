"""How good is the recipe that an experiment finds? Simulated scores of recipes, no model.

    python -m benchmarks.factors [--seeds 100] [--optuna 30] [--out FILE]

Three factors have levels from −1 to 1; the score of a recipe is one of `WORLDS`. Two recipes differ in it with a noise
of standard deviation 1. The experiment gets 40 pairs, and 4 episodes of tuning. With `--optuna N`, two samplers of
Optuna search in N of the seeds: 40 trials, each the difference from the configured recipe, and 4 more episodes of the
three best ones. Needs `pip install optuna`. Written to benchmarks/out/factors.json: world → search → largest possible
gain → mean share of it, and its standard error.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from nmg.base.files import write_text
from nmg.base.types import FloatArray
from nmg.learners.experiment.factors import FactorName, draw_levels, terms
from nmg.learners.experiment.regression import regress
from nmg.learners.experiment.response import response
from nmg.learners.experiment.stages import SHARES

NAMES: tuple[FactorName, ...] = ("learning-rate", "steps", "rate")
K, PAIRS, TUNED = len(NAMES), 40, 4
GAINS = (0.5, 1.0, 2.0)
"""largest possible gain, in standard deviations of the noise of a pair"""
OUT = Path("benchmarks/out/factors.json")
Score = Callable[[FloatArray], float]


def parabola(distance: float) -> float:
    return -(distance**2)


def cliff(distance: float) -> float:
    """Too much does more harm than too little."""
    return -(math.exp(1.5 * distance) - 1.5 * distance - 1.0)


WORLDS: Mapping[str, tuple[float, Callable[[float], float]]] = {
    "separate": (0.0, parabola),
    "substitutes": (0.6, parabola),
    "cliff": (0.6, cliff),
}
"""how much the second factor replaces the first one, and the score by the distance from their best sum"""


def new_world(kind: str, gain: float, rng: np.random.Generator) -> Score:
    """A function of levels [K]: 0 for the configured recipe, `gain` for the best one."""
    replaces, shape = WORLDS[kind]
    best = rng.uniform(0.4, 1.2) * rng.choice([-1.0, 1.0]), rng.uniform(-1, 1), rng.uniform(-1, 1)

    def score(z: FloatArray) -> float:
        own = 0.0 if replaces else 0.5 * parabola(z[1] - best[1])
        return shape(z[0] + replaces * z[1] - best[0]) + own + 0.4 * parabola(z[2] - best[2])

    base = score(np.zeros(K))
    most = max(score(np.array(z)) for z in product(np.linspace(-1, 1, 11), repeat=K)) - base
    return lambda z: gain * (score(z) - base) / most


def best_of(candidates: Sequence[FloatArray], score: Score, rng: np.random.Generator) -> float:
    """The score of the candidate with the best mean of `TUNED` noisy scores; the configured recipe takes part."""
    every = [np.zeros(K), *candidates]
    return score(max(every, key=lambda z: score(z) + rng.standard_normal() / np.sqrt(2 * TUNED)))


def experiment(score: Score, rng: np.random.Generator, shares: Sequence[float] = SHARES) -> float:
    pairs = [draw_levels(NAMES, rng) for _ in range(PAIRS)]
    z = np.array([terms(NAMES, first) - terms(NAMES, second) for first, second in pairs])
    y = np.array([score(first) - score(second) + rng.standard_normal() for first, second in pairs])
    masks = np.zeros((PAIRS, 1))
    best = response(z, masks, y, regress(masks, y)).best_levels(NAMES)
    return best_of([share * best for share in shares], score, rng)


def optuna_search(name: str, score: Score, rng: np.random.Generator) -> float:
    optuna = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize", sampler=getattr(optuna.samplers, name)(seed=int(rng.integers(2**31)))
    )
    study.optimize(lambda trial: score(levels_of(trial)) + rng.standard_normal(), n_trials=PAIRS)
    best = sorted(study.trials, key=lambda trial: -trial.value)[:3]
    return best_of([np.array(list(trial.params.values())) for trial in best], score, rng)


def levels_of(trial: Any) -> FloatArray:
    return np.array([trial.suggest_float(f"factor-{number}", -1.0, 1.0) for number in range(K)])


def searches(with_optuna: int, seeds: int) -> dict[str, tuple[int, Callable[[Score, np.random.Generator], float]]]:
    found: dict[str, Any] = {
        "experiment": (seeds, experiment),
        "without the half-way recipe": (seeds, lambda score, rng: experiment(score, rng, (1.0,))),
    }
    for name in ("TPESampler", "CmaEsSampler") if with_optuna else ():
        found[name] = (with_optuna, lambda score, rng, name=name: optuna_search(name, score, rng))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="How good is the recipe that an experiment finds?")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--optuna", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    words = parser.parse_args()
    results: dict[str, Any] = {}
    for kind, (name, (n, search)) in product(WORLDS, searches(words.optuna, words.seeds).items()):
        for gain in GAINS:
            shares = []
            for seed in range(n):
                rng = np.random.default_rng([seed, len(kind), int(10 * gain)])
                shares.append(search(new_world(kind, gain, rng), rng) / gain)
            mean, error = float(np.mean(shares)), float(np.std(shares) / np.sqrt(n))
            results.setdefault(kind, {}).setdefault(name, {})[gain] = {"mean": round(mean, 3), "error": round(error, 3)}
            print(f"{kind:12} {name:28} {gain:4} {mean:+.2f} ± {error:.2f}", flush=True)
    write_text(words.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
