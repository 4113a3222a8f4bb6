"""The complete settings: all sections in one frozen model.

`Config.digest` covers all sections except `runtime`, which affects only speed and rounding.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from nmg.base.section import Section, named_contents
from nmg.base.settings import (
    DataSettings,
    MaskingSettings,
    MetaSettings,
    MetaTestSettings,
    ModelSettings,
    RewardSettings,
    RunSettings,
    RuntimeSettings,
)
from nmg.base.training_settings import AdaptSettings, FinetuneSettings
from nmg.base.trial_recipe import TrialRecipe
from nmg.learners.experiment.factors import FACTORS
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.registry import LearnerSettings
from nmg.policies.linear import LinearSettings
from nmg.policies.registry import PolicySettings
from nmg.tasks.registry import TASKS

Evaluated = TypeVar("Evaluated", RewardSettings, MetaTestSettings)
"""A section with the setting `evaluation`."""


def _known_task(data: DataSettings) -> DataSettings:
    """Raise ValueError if the task is unknown."""
    if data.task not in TASKS:
        raise ValueError(f"task: there is no task '{data.task}' (known: {', '.join(TASKS)})")
    return data


class Config(Section):
    """All settings of a run, in sections; every setting has a default.

    Sections take their fields as a dictionary. A `Config` cannot be changed: `nmg.load_config` and the functions of nmg
    override settings, as `overrides={"masking.rate": 0.15}`. `nmg settings` lists all settings with their meaning.

    Attributes:
        run: Seed.
        model: The masked language model.
        data: Task, files, fields, labels.
        masking: Rate, replacement of masked tokens, settings of rules.
        adapt: Training of the language model: length, batch size, learning rate, blocks.
        finetune: Training of the task model.
        meta: Episodes of learning: number, contexts, examples.
        policy: Kind of policy and what it reads.
        learner: Kind of learner and its budget.
        reward: How an adapted model is scored during learning.
        test: How models are scored at the end.
        runtime: Device, precision, processes; these do not change what is computed.

    Example:
        ```python
        config = nmg.Config(data={"train": "train.jsonl"}, masking={"rate": 0.15})
        print(config.masking.rate)
        ```
    """

    run: RunSettings = RunSettings()
    model: ModelSettings = ModelSettings()
    data: Annotated[DataSettings, AfterValidator(_known_task)] = DataSettings()
    masking: MaskingSettings = MaskingSettings()
    adapt: AdaptSettings = AdaptSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    meta: MetaSettings = MetaSettings()
    policy: PolicySettings = LinearSettings()
    learner: LearnerSettings = ExperimentSettings()
    reward: Annotated[RewardSettings, Field(validate_default=True)] = RewardSettings()
    test: Annotated[MetaTestSettings, Field(validate_default=True)] = MetaTestSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    @field_validator("learner")
    @classmethod
    def _fits(cls, learner: LearnerSettings, info: ValidationInfo) -> LearnerSettings:
        """Check that the learner is compatible with the sections `meta` and `policy`."""
        meta, policy = info.data.get("meta"), info.data.get("policy")
        if meta is not None and meta.continual and meta.parallel_episodes not in {"auto", 1}:
            message = (
                "with meta.continual each episode starts from the LM of the previous one, so episodes cannot run in "
                "parallel. Set meta.continual to false or meta.parallel_episodes to 1."
            )
            raise _misfit(message, "meta.parallel_episodes", "meta.continual")
        if meta is not None and meta.continual and not learner.has_leader:
            raise _misfit(
                f"the learner '{learner.kind}' has no player whose LM could start the next episode. "
                "Set meta.continual to false.",
                "meta.continual",
            )
        if learner.needs_linear and policy is not None:
            if not isinstance(policy, LinearSettings):
                raise _misfit(f"the learner '{learner.kind}' needs policy.kind linear", "policy.kind")
            if "idf" not in policy.features:
                raise _misfit(f"the learner '{learner.kind}' needs idf in policy.features", "policy.features")
        if policy is not None and policy.unit != "token" and not learner.learns_words:
            message = f"the learner '{learner.kind}' learns only single tokens. Set policy.unit to token."
            raise _misfit(message, "policy.unit")
        return learner

    @field_validator("learner")
    @classmethod
    def _can_vary(cls, learner: LearnerSettings, info: ValidationInfo) -> LearnerSettings:
        """Check that the factors of an experiment have a range around the configured values."""
        if not isinstance(learner, ExperimentSettings) or not learner.factors:
            return learner
        adapt, masking = info.data.get("adapt"), info.data.get("masking")
        if adapt is not None and adapt.epochs == 0:
            message = "learner.factors vary the adaptation, but adapt.epochs is 0. Raise adapt.epochs."
            raise _misfit(message, "adapt.epochs", "learner.factors")
        if masking is not None and "rate" in learner.factors and (most := FACTORS["rate"].ratio * masking.rate) >= 1:
            message = f"the factor 'rate' would try the masking rate {most:.3g}. Lower masking.rate, or leave it out."
            raise _misfit(message, "masking.rate", "learner.factors")
        return learner

    @field_validator("reward", "test")
    @classmethod
    def _evaluated(cls, section: Evaluated, info: ValidationInfo) -> Evaluated:
        """Set the evaluation of a task that trains nothing, and check that no other task has it."""
        data = info.data.get("data")
        if data is None:
            return section
        if not TASKS[data.task].is_trained:
            return section.model_copy(update={"evaluation": "embedding"})
        if section.evaluation == "embedding":
            message = f"the task '{data.task}' trains a model. Use finetune or linear-probe instead of embedding."
            raise _misfit(message, f"{info.field_name}.evaluation", "data.task")
        return section

    @field_validator("test")
    @classmethod
    def _plans_at_one_rate(cls, test: MetaTestSettings, info: ValidationInfo) -> MetaTestSettings:
        """Check that the masking rate is constant if masks are selected only once."""
        masking = info.data.get("masking")
        if masking is not None and masking.rate_schedule != "constant" and test.remask == "once":
            message = "test.remask 'once' selects all masks at one rate. Set masking.rate_schedule to constant."
            raise _misfit(message, "masking.rate_schedule", "test.remask")
        return test

    def to_yaml(self) -> str:
        """Return the settings as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @property
    def digest(self) -> str:
        """Digest (16 hex digits) of all settings that affect results.

        It excludes the names of files and models, because results depend only on their content
        (`nmg.trials.provenance`), and `test.margin`, by which finished results are judged.
        """
        settings = self.model_dump(mode="json", exclude={"runtime": True, "test": {"margin"}})
        for setting, _, _ in named_contents(self):
            section, _, field = setting.partition(".")
            if settings[section][field] is None or isinstance(settings[section][field], str):
                del settings[section][field]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def with_recipe(self, recipe: TrialRecipe) -> "Config":
        """Return a copy with the settings of a recipe; the number of epochs is rounded, and at least 1."""
        factor, rate = recipe.steps_factor or 1.0, recipe.rate or self.masking.rate
        epochs = {
            "epochs": max(round(factor * self.adapt.epochs), 1),
            "learning_rate": recipe.learning_rate or self.adapt.learning_rate,
        }
        policy = {"unit": recipe.unit or self.policy.unit}
        test: dict[str, Any] = {}
        if self.test.adapt_epochs:
            test["adapt_epochs"] = max(round(factor * self.test.adapt_epochs), 1)
        if self.test.rate is not None and recipe.rate is not None:
            test["rate"] = rate
        return self.model_copy(
            update={
                "masking": self.masking.model_copy(update={"rate": rate}),
                "adapt": self.adapt.model_copy(update=epochs),
                "policy": self.policy.model_copy(update=policy),
                "test": self.test.model_copy(update=test),
            }
        )

    def with_threads(self, threads: int) -> "Config":
        """Return a copy with the setting `runtime.threads`."""
        return self.model_copy(update={"runtime": self.runtime.model_copy(update={"threads": threads})})

    def for_meta_test(self) -> "Config":
        """Return a copy in which the settings of `test` replace those of `masking`, `adapt` and `finetune`."""
        test = self.test
        adapt = {"epochs": test.adapt_epochs, "batch_size": test.adapt_batch_size}
        finetune = {"epochs": test.finetune_epochs, "batch_size": test.finetune_batch_size}
        return self.model_copy(
            update={
                "masking": self.masking.model_copy(update=_given({"rate": test.rate})),
                "adapt": self.adapt.model_copy(update=_given(adapt)),
                "finetune": self.finetune.model_copy(update=_given(finetune)),
            }
        )


# `help` shows the names of the sections; with all their defaults it would begin with a screen of numbers.
_SECTIONS = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default={}) for name in Config.model_fields]
type.__setattr__(Config, "__signature__", inspect.Signature(_SECTIONS))


def _misfit(message: str, setting: str, other: str = "learner.kind") -> PydanticCustomError:
    """Return a validation error for two incompatible settings, either of which may be the cause."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "settings": [setting, other]})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
