"""Worlds of an experiment: 15 features, some nearly the same, whose effects on the score are known; and whole runs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from benchmarks.levels import Claim
from nmg.base.types import FloatArray
from nmg.learners.experiment.gate import ALTERNATIVES, NONE, POLICY, RANDOM, RULE
from nmg.learners.experiment.regression import REACH, Effects, f_test, gain_limit, placebo_lengths, regress
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.experiment.stages import ExperimentState, learned_name, rule_name

Rng = np.random.Generator
N_FEATURES = 15
SCALES = np.array([1.482, 0.8, 0.705, 0.506, 0.364, 0.337, 0.305, 0.255, 0.182, 0.129, 0.029, 0.023, 0.2, 0.1, 0.05])
"""singular values of the response of masked tokens' mean features to the weights of a policy, as on ChemProt"""
TURN = np.linalg.qr(np.random.default_rng(0).standard_normal((N_FEATURES, N_FEATURES)))[0]
RESPONSE = TURN @ np.diag(SCALES) @ TURN.T
STD = 2.0
"""of the weights of a direction"""


def effects(rng: Rng, signal: float, is_sparse: bool = False) -> FloatArray:
    """[F]; the score of a pair has deviation `signal` over directions, in units of the noise of a pair."""
    if not signal:
        return np.zeros(N_FEATURES)
    drawn = rng.standard_normal(N_FEATURES)
    if is_sparse:
        drawn *= np.arange(N_FEATURES) == rng.integers(N_FEATURES)
    return drawn * signal / (STD * float(np.linalg.norm(RESPONSE @ drawn)))


def pairs(rng: Rng, n: int, beta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """x [n, F] and y [n] of an exploration."""
    x = STD * rng.standard_normal((n, N_FEATURES)) @ RESPONSE
    return x, x @ beta + rng.standard_normal(n)


def true_gain(signal: float) -> float:
    """Over random masks, of the best direction of the explored length."""
    return math.sqrt(N_FEATURES) * signal / 2


@dataclass(frozen=True)
class Ended:
    """What a whole run came to."""

    state: ExperimentState
    f_p: float | None
    limits: list[float]
    """of the possible gain, at each look"""

    @property
    def passed(self) -> bool:
        return self.state.selected == POLICY


def run(rng: Rng, signal: float, adapting: float = 0.0, equal: str | None = None, **settings: object) -> Ended:
    """Run an experiment of 200 plays, or as `settings` say.

    Args:
        rng: of all draws.
        signal: of the masks.
        adapting: gain of random masks over no adaptation, in units of the noise of a pair.
        equal: the alternative that scores exactly as the policy in the gate: the least favourable world for its test.
        settings: of the experiment.

    Returns:
        How it ended.
    """
    state = ExperimentState.new(ExperimentSettings.model_validate(settings), N_FEATURES)
    beta = effects(rng, signal)
    limits: list[float] = []
    known = regress(*state.rows())
    while state.stage != "done":
        stage = state.stage
        weights = _players(rng, state)
        moved = RESPONSE / 2 if stage == "explore" else RESPONSE
        features = {name: None if of is None else moved @ of for name, of in weights.items()}
        truth = {name: -adapting if of is None else float(of @ beta) for name, of in features.items()}
        if stage == "gate" and equal in truth:
            truth[str(equal)] = truth[POLICY]
        scores = {name: one + float(rng.standard_normal()) / math.sqrt(2) for name, one in truth.items()}
        is_look = stage == "explore" and state.max_independent_episodes == 1
        state.record(stage, scores, features)
        if is_look:  # nothing reads the effects before
            known = _with_f(state)
        before, state.possible_gain = state.possible_gain, None
        state.advance(known, rng)
        if state.possible_gain is not None:
            limits.append(state.possible_gain)
        else:
            state.possible_gain = before
    return Ended(state, known.f_p, limits)


def _with_f(state: ExperimentState) -> Effects:
    x, y = state.rows()
    f, p = f_test(x, y)
    return replace(regress(x, y), f=f, f_p=p)


def _players(rng: Rng, state: ExperimentState) -> Mapping[str, FloatArray | None]:
    """Player → weights, or None without adaptation; the rule idf is the first weight alone."""
    idf, learned = np.eye(N_FEATURES)[0], np.array(state.direction)
    if state.stage == "explore":
        direction = STD * rng.standard_normal(N_FEATURES)
        return {"plus": direction, "minus": -direction}
    if state.stage == "tune":
        rules = {rule_name(s): s * idf for s in state.settings.rules}
        return rules | {learned_name(s): s * learned for s in state.strengths_to_try()}
    players = {POLICY: state.strength * learned, RULE: state.rule * idf, RANDOM: 0 * idf, NONE: None}
    return {name: players[name] for name in state.gate_players}


def _covers(n: int, signal: float, is_sparse: bool) -> Callable[[Rng], bool]:
    """Whether the interval of one feature, drawn by chance, holds its effect."""

    def trial(rng: Rng) -> bool:
        beta = effects(rng, signal, is_sparse)
        found, one = regress(*pairs(rng, n, beta)), int(rng.integers(N_FEATURES))
        return bool(abs(found.mean[one] - beta[one]) <= REACH * found.deviation[one])

    return trial


def _names_wrongly(n: int, signal: float) -> Callable[[Rng], bool]:
    """Whether any interval leaves out zero though its feature does nothing."""

    def trial(rng: Rng) -> bool:
        beta = effects(rng, signal, is_sparse=True)
        found = regress(*pairs(rng, n, beta))
        return bool(((np.abs(found.mean) > REACH * found.deviation) & (beta == 0)).any())

    return trial


def _gain(n: int, signal: float) -> Callable[[Rng], bool]:
    def trial(rng: Rng) -> bool:
        limit = gain_limit(*pairs(rng, n, effects(rng, signal)), 0.95, rng)
        return limit is not None and limit >= true_gain(signal)

    return trial


def _all_looks(signal: float) -> Callable[[Rng], bool]:
    return lambda rng: min(run(rng, signal, clear=1e-12).limits) >= true_gain(signal)


def _placebo(rng: Rng) -> bool:
    x, y = pairs(rng, 50, np.zeros(N_FEATURES))
    return regress(x, y).length > float(np.quantile(placebo_lengths(x, y, rng), 0.95))


def _gate_of_examples(n: int, differs: float, is_held_back: bool, effect: float = 0.0) -> Callable[[Rng], bool]:
    """Whether the gate passes a policy.

    Args:
        n: validation examples.
        differs: deviation of an effect on one example from that on all others, in units of the noise of a play, half of
            whose variance is of the examples.
        is_held_back: half of the examples are the gate's alone.
        effect: of one feature, on all examples; 0: the policy gains nothing on other examples than these.

    Returns:
        The trial.
    """

    def trial(rng: Rng) -> bool:
        of_part = n // 2 if is_held_back else n
        noise = math.sqrt(0.5 + 0.5 * n / of_part)
        learned_on, scored_on = differs * rng.standard_normal((2, N_FEATURES)) / math.sqrt(of_part)
        if not is_held_back:
            scored_on = learned_on
        shared = effect * np.eye(N_FEATURES)[0]
        learned_on, scored_on = learned_on + shared, scored_on + shared
        x = STD * rng.standard_normal((50, N_FEATURES))
        direction = regress(x, x @ learned_on + noise * rng.standard_normal(50)).direction()
        gains = STD**2 * direction @ scored_on + noise * rng.standard_normal(25)
        return float(stats.ttest_1samp(gains, 0, alternative="greater").pvalue) < 0.05

    return trial


def _tuned_too_high(rng: Rng) -> bool:
    """Whether the chosen strength scored above the truth, over random's, in the plays that chose it."""
    state = run(rng, 0.0).state
    return state.tuned()[learned_name(state.strength)] > 0


def _searched_too_high(rng: Rng) -> bool:
    """Rule search: 33 episodes of six exponents of which none is better."""
    return float(rng.standard_normal((33, 6)).mean(axis=0).max()) > 0


def _rejects(signal: float) -> Callable[[Rng], bool]:
    return lambda rng: (run(rng, signal).f_p or 1.0) < 0.05


def _passes(signal: float, adapting: float = 0.0, equal: str | None = None) -> Callable[[Rng], bool]:
    """With a rule as equal, the rules leave out random masks, so that the gate always has a rule."""
    rules = {"rules": (2.0, 5.0, 10.0)} if equal == RULE else {}
    return lambda rng: run(rng, signal, adapting, equal, **rules).passed


def _selects(name: str, adapting: float) -> Callable[[Rng], bool]:
    """Whether a run without any effect of masks selects an alternative."""
    return lambda rng: run(rng, 0.0, adapting).state.selected == name


def claims() -> list[Claim]:
    """A signal of 1: directions make scores of pairs differ as much as noise does."""
    whole = [
        Claim("experiment: f_p", "whole run, no effect", "p < 0.05", _rejects(0.0), most=0.05, worlds=400),
        *(
            Claim("experiment: f_p", f"whole run, signal {s:g}", "p < 0.05", _rejects(s), worlds=200)
            for s in (0.3, 1.0)
        ),
        *(
            Claim(
                "experiment: possible_gain",
                f"whole run, signal {s:g}",
                "not exceeded at any look",
                _all_looks(s),
                least=0.95,
                worlds=400,
            )
            for s in (0.3, 1.0)
        ),
        *_of_gate(),
    ]
    by_half = "above the truth (50 % if fair)"
    return [
        *_of_pairs(20),
        *_of_pairs(50),
        Claim(
            "experiment: placebo_length",
            "50 pairs, no effect",
            "longer than 95 % of placebos",
            _placebo,
            most=0.05,
            worlds=200,
        ),
        *whole,
        *_on_examples(),
        Claim("experiment: tuned, the best", "whole run, no effect", by_half, _tuned_too_high, worlds=200),
        Claim("rule-search: mean_score, the best", "no effect", by_half, _searched_too_high),
    ]


def _of_pairs(n: int) -> list[Claim]:
    """Of a regression of n pairs."""
    number, found = "experiment: effect's low, high", []
    for signal, is_sparse in ((0.0, False), (0.3, False), (1.0, False), (1.0, True)):
        world = f"{n} pairs, signal {signal:g}" + (" of one feature" if is_sparse else "")
        found.append(Claim(number, world, "holds one effect", _covers(n, signal, is_sparse), least=0.95))
    for signal in (0.0, 1.0):
        world, says = f"{n} pairs, signal {signal:g} of one feature", "any without effect leaves out 0"
        found.append(Claim(number, world, says, _names_wrongly(n, signal), most=0.05))
    for signal in (0.3, 1.0, 3.0):
        world = f"{n} pairs, signal {signal:g}"
        found.append(Claim("experiment: gain_limit", world, "not exceeded", _gain(n, signal), least=0.95))
    return found


def _of_gate() -> list[Claim]:
    """Of whole runs: how often the policy passes, and what is selected instead."""
    called = {NONE: "no adaptation", RANDOM: "random masks", RULE: "the rule"}
    found = [Claim("gate: passes", "whole run, no effect", "passes", _passes(0.0), most=0.05, worlds=400)]
    for name in ALTERNATIVES:
        trial = _passes(1.0, 1.0, name)
        world = f"whole run, signal 1, {called[name]} as good as the policy"
        found.append(Claim("gate: passes", world, "passes", trial, most=0.05, worlds=400))
    for signal in (0.3, 1.0):
        found.append(Claim("gate: passes", f"whole run, signal {signal:g}", "passes", _passes(signal), worlds=200))
    for adapting, name in ((-1.0, NONE), (1.0, NONE)):
        world = f"whole run, masks equal, adapting {'gains' if adapting > 0 else 'costs'} 1"
        found.append(Claim("gate: selected", world, called[name], _selects(name, adapting), worlds=200))
    return found


def _on_examples() -> list[Claim]:
    """Of a gate whose episodes are scored on the examples that the policy was learned on, or on others."""
    nothing, something, found = "gate: gains nothing on other examples", "gate: gains on all examples", []
    for n in (150, 1000):
        for differs, held_back in ((0.0, False), (0.5, False), (0.5, True)):
            world = f"{n} examples, effects differ by {differs:g}" + (", half held back" if held_back else "")
            found.append(Claim(nothing, world, "passes", _gate_of_examples(n, differs, held_back)))
    for held_back in (False, True):
        world = "150 examples, an effect of 0.15" + (", half held back" if held_back else "")
        found.append(Claim(something, world, "passes", _gate_of_examples(150, 0.0, held_back, 0.15)))
    return found
