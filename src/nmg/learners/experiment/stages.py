"""State of the experiment learner: scores, decisions and stage transitions, all JSON-serializable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nmg.base.types import FloatArray
from nmg.learners.experiment.factors import terms
from nmg.learners.experiment.gate import NONE, POLICY, RANDOM, RECIPE, RULE, gate_verdict
from nmg.learners.experiment.regression import Effects, gain_limit
from nmg.learners.experiment.response import without_factors
from nmg.learners.experiment.settings import ExperimentSettings

EXPLORING, TUNING = 0.4, 0.2
"""Fractions of the budget for exploring and for tuning. The gate gets the rest."""
LOOK_EVERY = 10
"""Number of pairs between two interim analyses during exploration."""
SURE = 0.95
"""Confidence of the upper limit of the gain, over all interim analyses together."""
SHARES = (0.5, 1.0)
"""Shares of the way from the configured recipe to the best one that the tune stage tries."""


@dataclass
class ExperimentState:
    """The state of an experiment. Each list has one entry per episode or per row of the regression."""

    settings: ExperimentSettings
    n_features: int
    stage: str = "explore"
    """Current stage: `explore`, `tune`, `gate` or `done`."""
    trials: int = 0
    """Number of inner loops used so far."""
    episodes: int = 0
    """Number of episodes so far, with those in which training diverged."""
    x: list[list[float]] = field(default_factory=list)
    """[n][F]: contrasts between players in the same episode in the mean features of their masked tokens."""
    y: list[float] = field(default_factory=list)
    """[n]: contrasts between the scores of players in the same episode, for all episodes."""
    z: list[list[float]] = field(default_factory=list)
    """[n][2K]: contrasts between players in the same episode in the terms of the K factors of the recipe."""
    n_explored: int = 0
    """Number of pairs of the explore stage, which are the first rows of `x` and `y`."""
    tune_scores: list[dict[str, float]] = field(default_factory=list)
    """Player name → score, for each complete episode of the tune stage."""
    gate_scores: list[dict[str, float]] = field(default_factory=list)
    """Player name → score, for each complete episode of the gate stage."""
    direction: list[float] = field(default_factory=list)
    """[F]: the learned direction, of length 1, or zeros if it is unknown."""
    is_futile: bool = False
    """Whether no masking can gain as much as `settings.min_effect`."""
    possible_gain: float | None = None
    """Upper limit of the gain over random masks, with 95 % confidence over all interim analyses; None if unknown."""
    best_levels: list[float] = field(default_factory=list)
    """[K]: the levels of the best recipe after exploring; empty before."""
    share: float = 0.0
    """Selected share of the way from the configured recipe to the best one; 0 selects the configured one."""
    strength: float = 0.0
    """Selected length of the learned direction; 0 before it is selected."""
    rule: float = 0.0
    """Exponent of the best idf rule; 0 means random masks."""
    selected: str = RANDOM
    """What the run selects: `policy`, `recipe`, `rule`, `random` or `none`. Before the gate, it is the best rule so
    far."""

    @classmethod
    def new(cls, settings: ExperimentSettings, n_features: int) -> "ExperimentState":
        """Return the state at the start of an experiment with `n_features` features."""
        return cls(settings, n_features, direction=[0.0] * n_features)

    def rows(self) -> tuple[FloatArray, FloatArray]:
        """Return the inputs x [n, F] and targets y [n] of the regression, as float64 arrays."""
        return np.array(self.x).reshape(-1, self.n_features), np.array(self.y)

    @property
    def factor_rows(self) -> FloatArray:
        """Contrasts of the terms of the factors, float64 [n, 2K]."""
        return np.array(self.z).reshape(len(self.y), 2 * len(self.settings.factors))

    @property
    def levels(self) -> FloatArray:
        """Levels of the selected recipe, float64 [K]; zeros for the configured one."""
        return self.levels_at(self.share)

    def levels_at(self, share: float) -> FloatArray:
        """Return the levels at a share of the way from the configured recipe to the best one, float64 [K]."""
        best = self.best_levels or [0.0] * len(self.settings.factors)
        return share * np.array(best)

    def record(
        self,
        stage: str,
        scores: Mapping[str, float],
        features: Mapping[str, FloatArray | None],
        levels: Mapping[str, FloatArray] | None = None,
    ) -> None:
        """Record an episode.

        If a player's training diverged, the episode only uses up budget: its scores are ignored.

        Args:
            stage: The stage in which the episode was proposed.
            scores: Player name → score. Players whose training diverged are missing.
            features: Player name → [F], the mean features of the tokens that the player masked; None for the player
                without adaptation, which the regression leaves out.
            levels: Player name → [K], levels of the factors of its recipe; missing players have the configured one.
        """
        self.episodes += 1
        self.trials += len(features)
        if len(scores) < len(features) or not np.isfinite(list(scores.values())).all():
            return
        masked = {name: row for name in scores if (row := features[name]) is not None}
        contrasts = _contrasts(len(masked))
        self.x += (contrasts @ np.array(list(masked.values()))).tolist()
        self.y += (contrasts @ np.array([scores[name] for name in masked])).tolist()
        factors = self.settings.factors
        of_players = [terms(factors, (levels or {}).get(name, np.zeros(len(factors)))) for name in masked]
        self.z += (contrasts @ np.array(of_players)).tolist()
        if stage == "explore":
            self.n_explored += 1
        elif stage == "tune":
            self.tune_scores.append(dict(scores))
        else:
            self.gate_scores.append(dict(scores))

    def strengths_to_try(self) -> tuple[float, ...]:
        """Return the strengths of the learned direction to compare in the tune stage; empty if learning is futile."""
        return () if self.is_futile else self.settings.strengths

    def shares_to_try(self) -> tuple[float, ...]:
        """Return the shares of the way to the best recipe to compare in the tune stage; empty if none is better."""
        return SHARES if any(self.best_levels) else ()

    @property
    def gate_players(self) -> tuple[str, ...]:
        """Names of the players of a gate episode. If the best rule is random masks, they take part once.

        If the recipe is not the configured one, random masks also take part under it.
        """
        players = (POLICY, RULE, RANDOM, NONE) if self.rule else (POLICY, RANDOM, NONE)
        return (*players, RECIPE) if self.share else players

    def advance(self, effects: Effects, rng: np.random.Generator, best_levels: FloatArray | None = None) -> None:
        """Advance to the next stage if this one has used up its budget or its result is already clear.

        Args:
            effects: The effects of the masks so far.
            rng: Generator of the limit of the gain.
            best_levels: float64 [K], levels of the best recipe so far; None without factors.
        """
        if self.stage == "explore" and self._has_explored(effects, rng):
            self.direction = effects.direction().tolist()
            self.best_levels = [] if best_levels is None else best_levels.tolist()
            self.stage = "tune"
        elif self.stage == "tune" and self._has_tuned():
            means = self.tuned()
            self.rule = max(self.settings.rules, key=lambda s: means.get(rule_name(s), 0.0))
            if not self.is_futile:
                self.strength = max(self.settings.strengths, key=lambda s: means.get(learned_name(s), 0.0))
            self.share = max((0.0, *self.shares_to_try()), key=lambda share: means.get(recipe_name(share), 0.0))
            self.selected = RULE if self.rule else RANDOM
            self.stage = "done" if self.is_futile or self._is_spent(len(self.gate_players)) else "gate"
        elif self.stage == "gate" and self._is_spent(len(self.gate_players)):
            self.selected = gate_verdict(self.gate_scores, self.settings.gate_alpha).selected or self.selected
            self.stage = "done"

    @property
    def max_independent_episodes(self) -> int:
        """Number of episodes (≥ 1) until the next interim analysis or the end of the stage.

        No proposal before that depends on a score.
        """
        left = self.settings.budget - self.trials
        match self.stage:
            case "explore":
                beyond = self.n_explored - self._first_look
                next_look = -beyond if beyond < 0 else LOOK_EVERY - beyond % LOOK_EVERY
                free = min(next_look, int(EXPLORING * self.settings.budget - self.trials) // 2)
            case "tune":
                free = min(self._tuning_episodes - len(self.tune_scores), left // self._tuning_players)
            case _:
                free = left // len(self.gate_players)
        return max(free, 1)

    def players_left(self, n_tuned: int, n_gate: int) -> list[int]:
        """Return the number of players of each remaining episode if no stage ends early.

        Args:
            n_tuned: Number of players of an episode of the tune stage.
            n_gate: Number of players of an episode of the gate.

        Returns:
            One number per episode; empty after the last one.
        """
        if self.stage == "done":
            return []
        players, left = [], self.settings.budget - self.trials
        if self.stage == "explore":
            players += [2] * int((EXPLORING * self.settings.budget - self.trials) / 2)
        if self.stage != "gate":
            wanted = max(1, int(TUNING * self.settings.budget / n_tuned)) - len(self.tune_scores)
            players += [n_tuned] * max(min(wanted, (left - sum(players)) // n_tuned), 1)
        if not self.is_futile:
            players += [n_gate] * max((left - sum(players)) // n_gate, 0)
        return players

    @property
    def max_episodes(self) -> int:
        """Maximum number of episodes of the experiment, with those so far."""
        n_tuned = {self._tuning_players}
        if self.stage == "explore":  # whether recipes will be tuned is not known yet
            n_tuned.add(most_players(self.settings)[0])
        n_gate = len(self.gate_players)
        return self.episodes + max(len(self.players_left(n, n_gate)) for n in n_tuned)

    def tuned(self) -> dict[str, float]:
        """Return player name → mean score in the tune stage minus that of random masks (or of the first rule)."""
        if not self.tune_scores:
            return {}
        names = self.tune_scores[0]
        base = "random" if "random" in names else next(iter(names))
        return {name: float(np.mean([s[name] - s[base] for s in self.tune_scores])) for name in names}

    def _has_explored(self, effects: Effects, rng: np.random.Generator) -> bool:
        """Return whether the explore stage is over. At each interim analysis, also update the limit of the gain."""
        n, first = self.n_explored, self._first_look
        is_over = self.trials + 2 > EXPLORING * self.settings.budget
        if not is_over and (n < first or (n - first) % LOOK_EVERY):
            return False
        x, y = without_factors(self.factor_rows, *self.rows())
        self.possible_gain = gain_limit(x, y, 1 - (1 - SURE) / self._looks, rng)
        if self.settings.factors:  # clear effects of the masks do not make those of the recipe clear
            return is_over
        self.is_futile = self.possible_gain is not None and self.possible_gain < self.settings.min_effect
        return is_over or self.is_futile or (effects.f_p is not None and effects.f_p < self.settings.early_stop_alpha)

    def _has_tuned(self) -> bool:
        """Return whether the tune stage has run all of its episodes."""
        return len(self.tune_scores) >= self._tuning_episodes or self._is_spent(self._tuning_players)

    @property
    def _first_look(self) -> int:
        """Number of pairs before the first interim analysis."""
        return self.n_features + self.settings.min_pairs

    @property
    def _looks(self) -> int:
        """Maximum number of interim analyses while exploring, including the one at the end of the stage."""
        pairs = int(EXPLORING * self.settings.budget) // 2
        return 1 + max(0, -(-(pairs - self._first_look) // LOOK_EVERY))

    @property
    def _tuning_players(self) -> int:
        return len(self.settings.rules) + len(self.strengths_to_try()) + len(self.shares_to_try())

    @property
    def _tuning_episodes(self) -> int:
        return max(1, int(TUNING * self.settings.budget / self._tuning_players))

    def _is_spent(self, players: int) -> bool:
        """Return whether another episode with this number of players would exceed the budget."""
        return self.trials + players > self.settings.budget

    def to_json(self) -> dict[str, Any]:
        """Return all fields except the settings."""
        return {name: value for name, value in vars(self).items() if name != "settings"}

    @classmethod
    def from_json(cls, settings: ExperimentSettings, facts: Mapping[str, Any]) -> "ExperimentState":
        """Return the state that `to_json` saved."""
        return cls(settings, **facts)


def planned_players(settings: ExperimentSettings) -> list[int]:
    """Return the number of players of each episode of an experiment in which no stage ends early."""
    return ExperimentState.new(settings, n_features=0).players_left(*most_players(settings))


def most_players(settings: ExperimentSettings) -> tuple[int, int]:
    """Return the maximum number of players of an episode of the tune stage and of the gate."""
    is_varied = bool(settings.factors)
    return len(settings.rules) + len(settings.strengths) + is_varied * len(SHARES), 4 + is_varied


def rule_name(exponent: float) -> str:
    """Return the player name of the idf rule with this exponent."""
    return f"idf-{exponent:g}" if exponent else "random"


def learned_name(strength: float) -> str:
    """Return the player name of the learned direction at this strength."""
    return f"learned-{strength:g}"


def recipe_name(share: float) -> str:
    """Return the player name of random masks at this share of the way to the best recipe."""
    return f"recipe-{share:g}" if share else "random"


def _contrasts(n: int) -> FloatArray:
    """Return the contrast matrix [n - 1, n]: row k is the mean of the first k players minus player k + 1, scaled.

    If the noise of the players' scores is independent, so is that of the contrasts. Each contrast has the variance of a
    difference of two scores. Differences from one common player would share its noise and overstate the evidence.
    """
    rows = [np.sqrt(2 * k / (k + 1)) * np.array([*[1 / k] * k, -1.0, *[0.0] * (n - k - 1)]) for k in range(1, n)]
    return np.array(rows).reshape(-1, n)
