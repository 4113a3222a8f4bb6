"""Worlds of an audit: plays whose true scores are known, of maskings, of schedules, and of rewards that share noise."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from benchmarks.levels import Claim
from nmg.auditing.agreement import agreement
from nmg.auditing.findings import adaptation, possible_gain, rewards, schedules_of, spread_of
from nmg.auditing.recommend import best_reward, is_sound
from nmg.auditing.trials import AuditTrial
from nmg.base.trial import Condition, TrainingStats, TrialResult, TrialSpec
from nmg.base.types import FloatArray

Rng = np.random.Generator
SHARED, OWN = 1.0, 0.5
"""deviations of the noise of an adapted LM, which probe and fine-tunings share, and of each of them"""
NOISE = math.hypot(SHARED, OWN)
N_FEATURES = 12


def tables(rng: Rng, m: int, k: int, true: float, rho: float) -> tuple[FloatArray, FloatArray]:
    """A reward's and the full score's [m, k]; true effects of deviation `true`, correlated by `rho`."""
    full, other = true * rng.standard_normal((2, m, 1))
    reward = rho * full + math.sqrt(1 - rho**2) * other
    noise, seeds = SHARED * rng.standard_normal((m, k)), rng.standard_normal(k)
    draw = [OWN * rng.standard_normal((m, k)) for _ in range(2)]
    return reward + noise + seeds + draw[0], full + noise + seeds + draw[1]


def trial(
    masking: str, seed: int, probe: Mapping[str, float], tuned: Sequence[Mapping[str, float]], steps: int = 20
) -> AuditTrial:
    """A trial of an audit with these scores; each evaluation takes a second, a fine-tuning two."""
    spec = TrialSpec(masking, seed, Condition(100, steps), 1e-5)
    adaptation = TrainingStats(steps, 1.0, 1.0)
    results = [TrialResult(replace(spec, evaluation="linear-probe"), probe, {}, adaptation, TrainingStats(seconds=1.0))]
    for number, scores in enumerate(tuned):
        one = replace(spec, replicate=number)
        results.append(TrialResult(one, scores, {}, adaptation, TrainingStats(seconds=2.0)))
    return AuditTrial(results)


def plays(rng: Rng, m: int, k: int, true: float, rho: float) -> list[AuditTrial]:
    """Plays of m maskings with k seeds: a probe, and two fine-tunings of the full score."""
    full, other = true * rng.standard_normal((2, m))
    probe = rho * full + math.sqrt(1 - rho**2) * other
    found = []
    for seed in range(k):
        level = rng.standard_normal()
        for masking in range(m):
            shared = level + SHARED * rng.standard_normal()

            def scores(base: float, shared: float = shared) -> dict[str, float]:
                first, second = base + shared + OWN * rng.standard_normal(2)
                return {"accuracy": first, "loss": -second}

            tuned = [scores(full[masking]), scores(full[masking])]
            found.append(trial(f"direction-{masking}", seed, scores(probe[masking]), tuned))
    return found


def schedule_plays(rng: Rng, seeds: Sequence[int], schedules: Sequence[int], gain: float) -> list[AuditTrial]:
    """Without adaptation, and random masks at each schedule: every one gains as much."""
    found = []
    for seed in seeds:
        level = rng.standard_normal()
        for steps, masking in [(0, "none"), *((n, "random") for n in schedules)]:
            score = level + NOISE * rng.standard_normal() + gain * (masking == "random")
            tuned = [{"accuracy": score + OWN * value} for value in rng.standard_normal(2)]
            found.append(trial(masking, seed, {}, tuned, steps))
    return found


def chosen(rng: Rng, k: int, gain: float) -> tuple[bool | None, bool, float]:
    """Of the best of four schedules played again: what `pays` says, whether its interval holds, and its first lead."""
    tried = schedules_of(schedule_plays(rng, range(k), (1, 2, 3, 4), gain), "accuracy")
    best = max(tried, key=lambda one: one.gain)
    found = adaptation(tried, schedule_plays(rng, range(k, 2 * k), (best.steps,), gain), "accuracy")
    low, high = found.best.low, found.best.high
    return found.pays, low is not None and high is not None and low <= gain <= high, best.gain - gain


def directions(rng: Rng, m: int, k: int, noise: float) -> tuple[FloatArray, float]:
    """Scores [m, k] of random directions of a linear policy, and what the best of their length gains."""
    effects = rng.standard_normal(N_FEATURES)
    true = 2 * rng.standard_normal((m, N_FEATURES)) @ effects
    return true[:, None] + noise * rng.standard_normal((m, k)), 2 * math.sqrt(N_FEATURES) * float(
        np.linalg.norm(effects)
    )


def _differs(m: int, k: int, true: float) -> Callable[[Rng], bool]:
    return lambda rng: (spread_of(tables(rng, m, k, true, 0.0)[1]).p or 1.0) < 0.05


def _high(m: int, k: int, true: float) -> Callable[[Rng], bool]:
    return lambda rng: (spread_of(tables(rng, m, k, true, 0.0)[1]).between_high or 0.0) >= true


def _gain(m: int, k: int, noise: float) -> Callable[[Rng], bool]:
    def trial(rng: Rng) -> bool:
        table, true = directions(rng, m, k, noise)
        return (possible_gain(spread_of(table), N_FEATURES) or 0.0) >= true

    return trial


def _limit(m: int, k: int, true: float, rho: float, is_low: bool) -> Callable[[Rng], bool]:
    def trial(rng: Rng) -> bool:
        found = agreement(*tables(rng, m, k, true, rho))
        low, high = found.low, found.high
        return low is None or high is None or (low <= rho if is_low else high >= rho)

    return trial


def _seems_high(m: int, k: int) -> Callable[[Rng], bool]:
    return lambda rng: (agreement(*tables(rng, m, k, 0.0, 0.0)).estimate or 0.0) >= 0.5


def _sound(
    m: int, k: int, true: float, rho: float, names: Sequence[str], chosen_alone: bool = False
) -> Callable[[Rng], bool]:
    """Whether a reward of these names is called sound; or, of all rewards, is recommended as sound."""

    def trial(rng: Rng) -> bool:
        of = plays(rng, m, k, true, rho)
        found = rewards(of, "accuracy")
        p = spread_of(np.array([[np.mean([s["accuracy"] for s in one.finetune]) for one in of]]).reshape(k, m).T).p
        if chosen_alone:
            best = best_reward(found, p)
            return best is not None and best.name in names and is_sound(best, p)
        return any(is_sound(one, p) for one in found if one.name in names)

    return trial


def _finds(true: float) -> Callable[[Rng], bool]:
    """Whether as many plays as are said to be needed find a difference of one deviation, if the estimates are true."""
    from nmg.auditing.findings import Spread, plays_needed

    n = (plays_needed(Spread(9, 3, true, None, NOISE, None)) or 0) // 2

    def trial(rng: Rng) -> bool:
        differences = true + math.sqrt(2) * NOISE * rng.standard_normal(n)
        return float(stats.ttest_1samp(differences, 0).pvalue) < 0.05

    return trial


def claims() -> list[Claim]:
    """In units in which the noise of a play is 1.1; three seeds, unless it says otherwise."""
    return [*_on_maskings(), *_on_adaptation(), *_on_agreement(), *_on_rewards()]


def _on_maskings() -> list[Claim]:
    found = []
    for m in (6, 21):
        world = f"{m} maskings, none differs"
        found.append(Claim("audit: maskings.p", world, "p < 0.05", _differs(m, 3, 0.0), most=0.05))
        found.append(Claim("audit: maskings.p", f"{m} maskings differ by 1", "p < 0.05", _differs(m, 3, 1.0)))
    for true in (0.5, 1.0, 2.0):
        world = f"9 maskings differ by {true:g}"
        found.append(Claim("audit: between_high", world, "not exceeded", _high(9, 3, true), least=0.95))
    for m, noise in ((4, 5.0), (16, 5.0), (16, 1.0)):
        world = f"{m} directions, noise {noise:g}, 12 effects of 1"
        found.append(Claim("audit: possible_gain", world, "not exceeded", _gain(m, 3, noise), least=0.95))
    for true in (0.5, 1.0, 3.0):
        world = f"difference of {true:g}, estimates true"
        found.append(Claim("audit: plays_needed", world, "found at p < 0.05", _finds(true), least=0.8))
    return found


def _on_adaptation() -> list[Claim]:
    def says(k: int, gain: float, pays: bool) -> Callable[[Rng], bool]:
        return lambda rng: chosen(rng, k, gain)[0] is (True if pays else None)

    none, all_gain, by_half = "best of 4 schedules, none gains", "best of 4 schedules, all gain", "above the truth"
    return [
        Claim("audit: pays", none, "yes or no", lambda rng: not says(3, 0.0, pays=False)(rng), most=0.05),
        Claim("audit: pays", f"{all_gain} 4", "yes", says(3, 4.0, pays=True)),
        Claim("audit: pays", f"{all_gain} 4, 6 seeds", "yes", says(6, 4.0, pays=True)),
        Claim("audit: best.low, best.high", f"{all_gain} 1", "holds", lambda rng: chosen(rng, 3, 1.0)[1], least=0.95),
        Claim(
            "audit: schedules, the best",
            f"{all_gain} 1",
            f"{by_half} (50 % if fair)",
            lambda rng: chosen(rng, 3, 1.0)[2] > 0,
        ),
    ]


def _on_agreement() -> list[Claim]:
    found = []
    for true, rho in ((0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (2.0, 0.5), (2.0, 0.9), (2.0, -0.5)):
        world = f"10 maskings differ by {true:g}, correlation {rho:g}"
        for name, is_low in (("corrected_low", True), ("corrected_high", False)):
            trial = _limit(10, 3, true, rho, is_low)
            found.append(Claim(f"audit: {name}", world, "holds", trial, least=0.95))
    world = "10 maskings, none differs"
    return [*found, Claim("audit: corrected", world, "0.5 or more", _seems_high(10, 3), most=0.05)]


def _on_rewards() -> list[Claim]:
    every, probe, found = ("probe", "fine-tuning", "2 fine-tunings"), ("probe",), []
    for m in (7, 21):
        trial = _sound(m, 3, 0.0, 0.0, every)
        found.append(Claim("audit: sound", f"{m} maskings, none differs", "any reward", trial, most=0.05, worlds=400))
        for true in (1.0, 2.0):
            world, trial = f"{m} maskings differ by {true:g}", _sound(m, 3, true, 0.0, probe)
            unrelated = f"{world}, probe unrelated"
            found.append(Claim("audit: sound", unrelated, "the probe", trial, most=0.05, worlds=400))
            found.append(
                Claim(
                    "audit: sound", f"{world}, probe the same", "the probe", _sound(m, 3, true, 1.0, probe), worlds=400
                )
            )
            trial = _sound(m, 3, true, 0.0, probe, chosen_alone=True)
            found.append(Claim("audit: best_reward", unrelated, "the probe, as sound", trial, most=0.05, worlds=400))
    return found
