"""The parts of a run's page that depend on its learner: summary, warnings and sections."""

from collections.abc import Mapping
from types import ModuleType

from nmg.meta_training.log import RunLog
from nmg.report import actor_critic, experiment
from nmg.report.document import Section
from nmg.report.masked_kinds import empty_word_warning
from nmg.report.numbers import count_text

LEARNERS: Mapping[str, ModuleType] = {
    "actor-critic": actor_critic,
    "experiment": experiment,
}
"""Kind of learner → module with its part of the page: `summary(log)`, `warnings(log)` and `sections(log)`."""


def summary(log: RunLog) -> str:
    """Return a few sentences on what was learned; empty if the learner has no summary or no episode has ended."""
    shown = LEARNERS.get(log.config.learner.kind)
    return str(shown.summary(log.sound)) if shown and log.sound.episodes else ""


def warnings(log: RunLog) -> list[str]:
    """Return a warning for each apparent problem of the run, with advice on how to solve it."""
    shown = LEARNERS.get(log.config.learner.kind)
    n_lost = len(log.episodes) - len(log.sound.episodes)
    lost = [
        f"**In {count_text(n_lost, 'episode')} a player's training diverged**: its losses or weights were not finite. "
        "These episodes are left out below. Lower `adapt.learning_rate` or `finetune.learning_rate`."
    ]
    return [*lost[: min(n_lost, 1)], *(shown.warnings(log.sound) if shown else []), *empty_word_warning(log)]


def learner_sections(log: RunLog) -> list[Section]:
    """Return the sections of the run's learner; the run must have at least one episode."""
    shown = LEARNERS.get(log.config.learner.kind)
    return shown.sections(log) if shown else []
