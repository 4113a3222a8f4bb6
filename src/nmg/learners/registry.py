"""Registry of learners: the settings class and the learner class of each kind."""

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, TypeAlias

from pydantic import Field

from nmg.base.section import default_kind
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.base import Learner, LearnerContext
from nmg.learners.evolution import EvolutionSettings
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.random_search import RandomSearchSettings
from nmg.learners.rule_search import RuleSearchSettings

LearnerSettings: TypeAlias = Annotated[
    ActorCriticSettings  # from the paper
    | EvolutionSettings  # new in nmg
    | ExperimentSettings  # new in nmg
    | RandomSearchSettings  # new in nmg
    | RuleSearchSettings,  # new in nmg
    Field(discriminator="kind"),
    default_kind("experiment"),
]
"""Settings of any kind of learner; the field `kind` selects the class."""

LEARNERS: Mapping[str, str] = {
    "actor-critic": "nmg.learners.actor_critic.learner:ActorCritic",
    "evolution": "nmg.learners.evolution:Evolution",
    "experiment": "nmg.learners.experiment.learner:Experiment",
    "random-search": "nmg.learners.random_search:RandomSearch",
    "rule-search": "nmg.learners.rule_search:RuleSearch",
}
"""Kind → learner class as `module:Class`, imported only when a learner of that kind is built."""


def build_learner(settings: LearnerSettings, ground: LearnerContext) -> Learner:
    """Return a new learner of the kind that `settings` selects."""
    module, _, name = LEARNERS[settings.kind].partition(":")
    learner: Learner = getattr(import_module(module), name)(settings, ground)
    return learner
