"""Learners by kind."""

from typing import Annotated, TypeAlias

from pydantic import Field

from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.evolution import EvolutionSettings
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.random_search import RandomSearchSettings
from nmg.learners.rule_search import RuleSearchSettings
from nmg.settings import default_kind

LearnerSettings: TypeAlias = Annotated[
    ActorCriticSettings  # the paper's
    | EvolutionSettings  # ours
    | ExperimentSettings  # ours
    | RandomSearchSettings  # ours
    | RuleSearchSettings,  # ours
    Field(discriminator="kind"),
    default_kind("experiment"),
]
"""The registry: a line per kind."""
