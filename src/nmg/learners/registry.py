"""Learners by kind."""

from typing import Annotated, TypeAlias

from pydantic import Field

from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.random_search import RandomSearchSettings
from nmg.settings import default_kind

LearnerSettings: TypeAlias = Annotated[
    ActorCriticSettings | RandomSearchSettings,
    Field(discriminator="kind"),
    default_kind("actor-critic"),
]
"""The registry: a line a kind."""
