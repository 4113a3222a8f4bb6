"""The stages of an experiment, what is known in each, and when it moves on: pure bookkeeping that JSON can hold."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from nmg.learners.experiment.regression import Effects, gain_limit
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.types import FloatArray

EXPLORING, TUNING = 0.5, 0.25
"""shares of the plays; the rest is the gate's"""
LOOK_EVERY = 10
"""pairs"""
SURE = 0.95


@dataclass
class Book:
    """All scores so far. Lists hold an entry an episode, or a row of the regression."""

    settings: ExperimentSettings
    n_features: int
    stage: str = "explore"
    """explore, tune, gate, done"""
    plays: int = 0
    x: list[list[float]] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    """rows of the regression: contrasts of the players of an episode"""
    n_explored: int = 0
    """pairs of the first stage, the first rows"""
    tune_scores: list[dict[str, float]] = field(default_factory=list)
    gate_scores: list[dict[str, float]] = field(default_factory=list)
    direction: list[float] = field(default_factory=list)
    """[F] of length 1, or zeros"""
    is_futile: bool = False
    """no masking can gain as much as the user cares about"""
    possible_gain: float | None = None
    """over random masks: the limit holds at all looks together with 95 % confidence"""
    strength: float = 0.0
    rule: float = 0.0
    """sharpness of idf of the best rule; 0 is random"""
    passed: bool = False

    @classmethod
    def new(cls, settings: ExperimentSettings, n_features: int) -> "Book":
        return cls(settings, n_features, direction=[0.0] * n_features)

    def rows(self) -> tuple[FloatArray, FloatArray]:
        """x [n, F] and y [n] of the regression."""
        return np.array(self.x).reshape(-1, self.n_features), np.array(self.y)

    def note(self, stage: str, scores: Mapping[str, float], features: Mapping[str, FloatArray]) -> None:
        """Write down an episode: scores, and mean features of what was masked, of each player.

        Of one with a player whose training diverged, which has no score, only the plays count.
        """
        self.plays += len(features)
        if len(scores) < len(features) or not np.isfinite(list(scores.values())).all():
            return
        contrasts = _contrasts(len(scores))
        self.x += (contrasts @ np.array([features[name] for name in scores])).tolist()
        self.y += (contrasts @ np.array(list(scores.values()))).tolist()
        if stage == "explore":
            self.n_explored += 1
        elif stage == "tune":
            self.tune_scores.append(dict(scores))
        else:
            self.gate_scores.append(dict(scores))

    def strengths_to_try(self) -> tuple[float, ...]:
        return () if self.is_futile else self.settings.strengths

    def move_on(self, effects: Effects, rng: np.random.Generator) -> None:
        """Go to the next stage where this one has had its plays, or where the answer is clear."""
        if self.stage == "explore" and self._has_explored(effects, rng):
            self.direction = effects.direction().tolist()
            self.stage = "tune"
        elif self.stage == "tune" and self._has_tuned():
            means = self.tuned()
            self.rule = max(self.settings.rules, key=lambda s: means.get(rule_name(s), 0.0))
            if not self.is_futile:
                self.strength = max(self.settings.strengths, key=lambda s: means.get(learned_name(s), 0.0))
            self.stage = "done" if self.is_futile or self._is_spent(2) else "gate"
        elif self.stage == "gate" and self._is_spent(2):
            self.passed = gate_verdict(self, self.settings.level).passes
            self.stage = "done"

    @property
    def free_episodes(self) -> int:
        """Until the answer is looked at, or the stage ends: no proposal before that depends on a score."""
        left = self.settings.plays - self.plays
        match self.stage:
            case "explore":
                beyond = self.n_explored - self._first_look
                next_look = -beyond if beyond < 0 else LOOK_EVERY - beyond % LOOK_EVERY
                free = min(next_look, int(EXPLORING * self.settings.plays - self.plays) // 2)
            case "tune":
                free = min(self._tuning_episodes - len(self.tune_scores), left // self._tuning_players)
            case _:
                free = left // 2
        return max(free, 1)

    def tuned(self) -> dict[str, float]:
        """Mean score of each player of the second stage, over random's."""
        if not self.tune_scores:
            return {}
        names = self.tune_scores[0]
        base = "random" if "random" in names else next(iter(names))
        return {name: float(np.mean([s[name] - s[base] for s in self.tune_scores])) for name in names}

    def _has_explored(self, effects: Effects, rng: np.random.Generator) -> bool:
        n, first = self.n_explored, self._first_look
        is_over = self.plays + 2 > EXPLORING * self.settings.plays
        if not is_over and (n < first or (n - first) % LOOK_EVERY):
            return False
        self.possible_gain = gain_limit(*self.rows(), 1 - (1 - SURE) / self._looks, rng)
        self.is_futile = self.possible_gain is not None and self.possible_gain < self.settings.smallest_gain
        return is_over or self.is_futile or (effects.f_p is not None and effects.f_p < self.settings.clear)

    def _has_tuned(self) -> bool:
        """After so many episodes of the second stage, one at the least."""
        return len(self.tune_scores) >= self._tuning_episodes or self._is_spent(self._tuning_players)

    @property
    def _first_look(self) -> int:
        """pairs"""
        return self.n_features + self.settings.first_look

    @property
    def _looks(self) -> int:
        """At the answer while exploring, at most: the last one is where the stage ends."""
        pairs = int(EXPLORING * self.settings.plays) // 2
        return 1 + max(0, -(-(pairs - self._first_look) // LOOK_EVERY))

    @property
    def _tuning_players(self) -> int:
        return len(self.settings.rules) + len(self.strengths_to_try())

    @property
    def _tuning_episodes(self) -> int:
        return max(1, int(TUNING * self.settings.plays / self._tuning_players))

    def _is_spent(self, players: int) -> bool:
        """Whether one more episode of so many players would be too much."""
        return self.plays + players > self.settings.plays

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "settings"}

    @classmethod
    def from_json(cls, settings: ExperimentSettings, facts: Mapping[str, Any]) -> "Book":
        return cls(settings, **facts)


def planned_players(settings: ExperimentSettings) -> list[int]:
    """Players of each episode of an experiment in which no answer is clear before its time."""
    n_tuned = len(settings.rules) + len(settings.strengths)
    explored = [2] * int(EXPLORING * settings.plays / 2)
    tuned = [n_tuned] * max(1, int(TUNING * settings.plays / n_tuned))
    return explored + tuned + [2] * ((settings.plays - sum(explored) - sum(tuned)) // 2)


def rule_name(sharpness: float) -> str:
    return f"idf-{sharpness:g}" if sharpness else "random"


def learned_name(strength: float) -> str:
    return f"learned-{strength:g}"


def _contrasts(n: int) -> FloatArray:
    """[n - 1, n]: the mean of the first 1, 2, … players less the next one; of two, the first less the second.

    Where the scores of players have independent noise, so have these, of the variance that a difference of two has.
    Differences from one and the same player would share its noise, and count as more than there is.
    """
    rows = [np.sqrt(2 * k / (k + 1)) * np.array([*[1 / k] * k, -1.0, *[0.0] * (n - k - 1)]) for k in range(1, n)]
    return np.array(rows).reshape(-1, n)


@dataclass(frozen=True)
class Verdict:
    """Of the gate: policy − rule over its episodes."""

    n: int
    mean: float | None
    p: float | None
    """one-sided paired t test; None with fewer than two episodes, or where all differences are equal"""
    passes: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def gate_verdict(book: Book, level: float) -> Verdict:
    differences = np.array([scores["policy"] - scores["rule"] for scores in book.gate_scores])
    n = len(differences)
    if not n:
        return Verdict(0, None, None, False)
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1)) if n > 1 else 0.0
    if deviation == 0:
        return Verdict(n, mean, None, False)
    p = float(stats.t.sf(mean / deviation * np.sqrt(n), n - 1))
    return Verdict(n, mean, p, p < level)
