"""Learn masks by a designed experiment. This learner is not part of the paper.

*Explore*: each episode draws one direction in the weights of a linear policy over token features. Two players use it
with opposite signs and share everything else: labels, batches, dropout, corruption and sampling noise. Regressing the
difference of their scores on the difference of the mean features of their masked tokens gives each feature's effect.
*Tune*: the learned direction at several strengths and idf rules with several exponents compete on the same episodes.
*Gate*: the best policy competes with the best rule, with random masks and with no adaptation on new episodes. The
learner selects the policy if it beats all of them, and otherwise the best of them.

With `factors`, players also differ in their recipes, such as the learning rate (`nmg.learners.experiment.factors`).
Tuning tries the best recipe with random masks. The gate runs the policy and random masks under it, and the alternatives
under the configured recipe.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from nmg.base.trial import TrialResult
from nmg.base.trial_recipe import TrialRecipe
from nmg.base.types import Episode, FloatArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.learners.base import LearnerCapabilities, LearnerContext, LearnerDefaults, LearnerState, RunForecast
from nmg.learners.experiment.factors import FACTORS, draw_levels, recipe_at
from nmg.learners.experiment.gate import NONE, POLICY, RANDOM, RECIPE, RULE, gate_verdict
from nmg.learners.experiment.regression import Effects, f_test, placebo_lengths, regress
from nmg.learners.experiment.response import Response, response, without_factors
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.experiment.stages import (
    ExperimentState,
    learned_name,
    most_players,
    planned_players,
    recipe_name,
    rule_name,
)
from nmg.policies.base import Policy
from nmg.policies.linear import LinearPolicy
from nmg.policies.sampling import draw_by


@dataclass(frozen=True)
class _Proposal:
    """The data about a proposed episode that `learn` needs."""

    stage: str
    """Stage in which the episode was proposed."""
    features: Mapping[str, FloatArray | None]
    """Player name → float64 [F], mean features of the tokens that the player masks; None without adaptation."""
    levels: Mapping[str, FloatArray]
    """Player name → float64 [K], levels of the factors of its recipe; empty without factors."""


class Experiment(LearnerDefaults):
    """A learner that explores directions, tunes the best one and tests it against all alternatives."""

    def __init__(self, settings: ExperimentSettings, ground: LearnerContext) -> None:
        self.settings, self.ground = settings, ground
        policy = ground.new_policy()
        assert isinstance(policy, LinearPolicy), "the settings require a linear policy"
        policy.reset_parameters()
        self._template = policy.to(ground.device)
        self.state = ExperimentState.new(settings, len(policy.config.features))
        self._proposed: dict[int, _Proposal] = {}

    @property
    def policy(self) -> Policy:
        """The learned policy if it passed the gate; otherwise the best rule so far (random masks at first)."""
        match self.state.selected:
            case "policy":
                return self._under_recipe(self._learned(self.state.strength))
            case "recipe":
                return self._under_recipe(self._rule(0.0))
            case "random":
                return self._rule(0.0)
        return self._rule(self.state.rule)

    @property
    def has_policy(self) -> bool:  # type: ignore[override]
        """False if the gate selected no adaptation."""
        return self.state.selected != NONE

    @property
    def is_finished(self) -> bool:  # type: ignore[override]
        """Whether all stages are done."""
        return self.state.stage == "done"

    @property
    def capabilities(self) -> LearnerCapabilities:  # type: ignore[override]
        """The capabilities in the current stage.

        Episodes are independent until the next interim analysis or the end of the stage.
        """
        settings = self.settings
        return LearnerCapabilities(
            max_players=max(most_players(settings)),
            max_independent_episodes=self.state.max_independent_episodes,
            max_episodes=self.state.max_episodes,
        )

    def forecast(self, episodes: int) -> RunForecast:
        """Forecast the players of each episode if no stage ends early."""
        return RunForecast(planned_players(self.settings)[:episodes])

    def propose(self, episode: Episode, blocks: TokenBlocks, encode: StateEncoder) -> dict[str, MaskPlan | None]:
        """Sample a plan for each player of the current stage, with shared noise.

        Args:
            episode: The episode to run.
            blocks: The token blocks of the episode.
            encode: The LM that the policy may observe.

        Returns:
            Player name → plan, or None for the player without adaptation.
        """
        observation = self._template.observe(blocks, encode)
        plans: dict[str, MaskPlan | None] = {}
        features: dict[str, FloatArray | None] = {}
        levels = self._levels(episode)
        for name, policy in self._players(episode).items():
            if policy is None:
                plans[name] = features[name] = None
                continue
            noise = (self.ground.randomness / "episode" / episode.index / "actions").generator()
            recipe = self._recipe(levels[name]) if name in levels else None
            rate = recipe.rate if recipe is not None and recipe.rate is not None else self.ground.rate
            plan = draw_by(_with_unit(policy, recipe), observation, blocks, rate, noise)
            plans[name] = plan
            features[name] = mean_features(observation, plan.is_masked(blocks.input_ids.shape[1]))
        self._proposed[episode.index] = _Proposal(self.state.stage, features, levels)
        return plans

    def recipes(self, episode: Episode) -> dict[str, TrialRecipe]:
        """Return the recipes of a proposed episode, as player → recipe; others have the configured recipe."""
        levels = self._proposed[episode.index].levels
        return {name: recipe for name, one in levels.items() if (recipe := self._recipe(one)) is not None}

    def learn(self, episode: Episode, outcomes: Mapping[str, TrialResult]) -> dict[str, Any]:
        """Record the scores of the players, and advance to the next stage if the current one is over.

        Returns the stage and the number of inner loops so far. For a complete pair of the explore stage, it also
        returns the score difference, and with factors the recipes of the players.
        """
        recipes = {name: recipe.to_json() for name, recipe in self.recipes(episode).items()}
        proposal = self._proposed.pop(episode.index)
        scores = {name: self.ground.score(outcome) for name, outcome in outcomes.items()}
        self.state.record(proposal.stage, scores, proposal.features, proposal.levels)
        rng = (self.ground.randomness / "episode" / episode.index / "look").generator()
        self.state.advance(self.effects(), rng, self._best_levels())
        record: dict[str, Any] = {"stage": proposal.stage, "trials": self.state.trials}
        if self.settings.factors:
            record["recipes"] = recipes
        if proposal.stage == "explore" and len(scores) == 2:
            record["difference"] = scores["plus"] - scores["minus"]
        return record

    def effects(self) -> Effects:
        """Estimate the effects from all episodes so far. The F test uses only the explore stage (random directions)."""
        (x, y), z, n = self.state.rows(), self.state.factor_rows, self.state.n_explored
        f, p = f_test(*without_factors(z[:n], x[:n], y[:n]))
        return replace(regress(*without_factors(z, x, y)), n=len(y), f=f, f_p=p)

    def response(self) -> Response:
        """Estimate how the score depends on the factors of the recipe, from the explore stage.

        Later, the learned masks always have the best recipe, so shrunk effects of masks would seem to be its effect.
        """
        (x, y), n = self.state.rows(), self.state.n_explored
        return response(self.state.factor_rows[:n], x[:n], y[:n], self.effects())

    def _best_levels(self) -> FloatArray | None:
        """Return the levels of the best recipe so far, float64 [K]; None without factors."""
        names = self.settings.factors
        return self.response().best_levels(names) if names else None

    def best_guess(self) -> Policy:
        """Return the direction learned so far at the largest strength, regardless of the stage and the gate."""
        return self._weighted(max(self.settings.strengths) * self.effects().direction())

    def findings(self) -> dict[str, Any]:
        """Return the content of effects.json: feature effects with intervals, F test, placebo band and gate."""
        effects, features = self.effects(), self._template.config.features
        rng = (self.ground.randomness / "placebo band").generator()
        x, y = without_factors(self.state.factor_rows, *self.state.rows())
        band = placebo_lengths(x, y, rng) if len(y) else np.zeros(1)
        found = effects.to_json(features) | {
            "stage": self.state.stage,
            "trials": self.state.trials,
            "length": effects.length,
            "placebo_length": {"median": float(np.median(band)), "high": float(np.quantile(band, 0.95))},
            "possible_gain": self.state.possible_gain,
            "strength": self.state.strength,
            "rule": self.state.rule,
            "tuned": self.state.tuned(),
            "gate": gate_verdict(self.state.gate_scores, self.settings.gate_alpha).to_json(),
            "selected": self.state.selected,
        }
        return found | self._recipe_findings() if self.settings.factors else found

    def _recipe_findings(self) -> dict[str, Any]:
        """Return the entries of effects.json on the factors and the tuned recipe."""
        names, levels, configured = self.settings.factors, self.state.levels, self.ground.recipe
        factors = self.response().to_json(names)
        for one, name, level in zip(factors, names, levels.tolist(), strict=True):
            factor = FACTORS[name]
            one["values"] = [factor.value(configured, end) for end in (factor.lowest, 0.0, 1.0)]
            one["tuned"] = factor.value(configured, level)
            one["is_at_end"] = not factor.values and abs(level) == 1.0
        recipe = self._recipe(levels)
        return {"factors": factors, "recipe": None if recipe is None else recipe.to_json()}

    def extra_policies(self) -> dict[str, Policy]:
        """Return the policies to save in addition to `policy`, by name.

        `learned` and `rule` take part in the gate. `placebo` is learned from the same episodes with random signs of the
        score differences. If no strength was selected, the largest one is used.
        """
        x, y = without_factors(self.state.factor_rows, *self.state.rows())
        strength = self.state.strength or max(self.settings.strengths)
        signs = (self.ground.randomness / "placebo").generator().choice([-1.0, 1.0], len(y))
        placebo = regress(x, y * signs).direction() if len(y) else np.zeros(x.shape[1])
        return {
            "learned": self._under_recipe(self._learned(strength)),
            "rule": self._rule(self.state.rule),
            "placebo": self._under_recipe(self._weighted(strength * placebo)),
        }

    def save(self) -> LearnerState:
        """Return the state of the experiment."""
        return LearnerState(facts={"state": self.state.to_json()})

    def restore(self, saved: LearnerState) -> None:
        """Restore the state of the experiment."""
        self.state = ExperimentState.from_json(self.settings, saved.facts["state"])

    def _players(self, episode: Episode) -> dict[str, LinearPolicy | None]:
        """Return player name → policy, or None for no adaptation, for an episode of the current stage."""
        match self.state.stage:
            case "explore":
                rng = (self.ground.randomness / "episode" / episode.index / "direction").generator()
                direction = self.settings.std * rng.standard_normal(self._template.observation_size)
                return {"plus": self._weighted(direction), "minus": self._weighted(-direction)}
            case "tune":
                rules = {rule_name(exponent): self._rule(exponent) for exponent in self.settings.rules}
                learned = {learned_name(s): self._learned(s) for s in self.state.strengths_to_try()}
                recipes = {recipe_name(share): self._rule(0.0) for share in self.state.shares_to_try()}
                return {**rules, **learned, **recipes}
        learned_policy, rule = self._learned(self.state.strength), self._rule(self.state.rule)
        players = {POLICY: learned_policy, RULE: rule, RANDOM: self._rule(0.0), NONE: None, RECIPE: self._rule(0.0)}
        return {name: players[name] for name in self.state.gate_players}

    def _levels(self, episode: Episode) -> dict[str, FloatArray]:
        """Return player name → levels of its recipe; players without an entry have the configured recipe."""
        if not self.settings.factors:
            return {}
        match self.state.stage:
            case "explore":
                rng = (self.ground.randomness / "episode" / episode.index / "recipe").generator()
                plus, minus = draw_levels(self.settings.factors, rng)
                return {"plus": plus, "minus": minus}
            case "tune":
                return {recipe_name(share): self.state.levels_at(share) for share in self.state.shares_to_try()}
        return {POLICY: self.state.levels, RECIPE: self.state.levels}

    def _recipe(self, levels: FloatArray) -> TrialRecipe | None:
        """Return the recipe at levels [K] of the factors; None if it is the configured one."""
        return recipe_at(self.settings.factors, levels, self.ground.recipe)

    def _under_recipe(self, policy: LinearPolicy) -> LinearPolicy:
        """Return a policy that names the tuned recipe in its configuration; `policy` itself if none was selected."""
        recipe = self._recipe(self.state.levels)
        if recipe is not None:
            rate = policy.config.masking_rate if recipe.rate is None else recipe.rate
            policy.config = replace(policy.config, masking_rate=rate, recipe=recipe)
        return _with_unit(policy, recipe)

    def _learned(self, strength: float) -> LinearPolicy:
        """Return a policy with the learned direction, scaled to length `strength`."""
        return self._weighted(strength * np.array(self.state.direction))

    def _rule(self, exponent: float) -> LinearPolicy:
        """Return the idf rule with the given exponent as a policy."""
        policy = copy.deepcopy(self._template)
        policy.set_slopes({"idf": exponent})
        return policy

    @torch.no_grad()
    def _weighted(self, weights: FloatArray) -> LinearPolicy:
        policy = copy.deepcopy(self._template)
        policy.weights.copy_(torch.from_numpy(weights))
        return policy


def _with_unit(policy: LinearPolicy, recipe: TrialRecipe | None) -> LinearPolicy:
    """Return the policy, changed to the unit of the recipe if the recipe has one."""
    if recipe is not None and recipe.unit is not None:
        policy.config = replace(policy.config, unit=recipe.unit)
    return policy


def mean_features(observation: torch.Tensor, is_masked: torch.Tensor) -> FloatArray:
    """Return the mean features of the masked tokens, float64 [F].

    `observation` is float [B, T, F] and `is_masked` is bool [B, T].
    """
    # Move to the CPU first because some devices do not support float64.
    features: FloatArray = observation[is_masked.to(observation.device)].cpu().double().mean(dim=0).numpy()
    return features
