"""The recipe of a trial: settings of its adaptation that differ from the configured ones."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from nmg.base.section import Positive, Rate, Section
from nmg.base.trial import TrialSpec


class TrialRecipe(Section):
    """Settings of one adaptation; None keeps the configured setting."""

    learning_rate: Positive | None = None
    """In place of `adapt.learning_rate`."""
    steps_factor: Positive | None = None
    """Number of adaptation steps, divided by the configured number."""
    rate: Rate | None = None
    """In place of `masking.rate`."""
    unit: Literal["token", "word"] | None = None
    """In place of `policy.unit`."""

    def applied_to(self, spec: TrialSpec, steps: int) -> TrialSpec:
        """Return a trial with the learning rate and the steps of this recipe.

        The masks of the trial must have the recipe's rate and unit.

        Args:
            spec: The trial.
            steps: The configured number of adaptation steps.

        Returns:
            A copy of `spec`, with at least one step.
        """
        if self.learning_rate is not None:
            spec = replace(spec, learning_rate=self.learning_rate)
        if self.steps_factor is None:
            return spec
        steps = max(round(self.steps_factor * steps), 1)
        return replace(spec, condition=replace(spec.condition, adapt_steps=steps))

    def to_json(self) -> dict[str, Any]:
        """Return the settings that are not None, as JSON values."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def words(self) -> str:
        """The settings in words.

        >>> TrialRecipe(learning_rate=4e-5, steps_factor=1.5).words
        'learning rate 4e-05, 1.5 times the steps'
        """
        return ", ".join(self._phrases())

    def _phrases(self) -> Iterator[str]:
        if self.learning_rate is not None:
            yield f"learning rate {self.learning_rate:.3g}"
        if self.steps_factor is not None:
            yield f"{self.steps_factor:.3g} times the steps"
        if self.rate is not None:
            yield f"masking rate {self.rate:.3g}"
        if self.unit is not None:
            yield "whole words" if self.unit == "word" else "single tokens"
