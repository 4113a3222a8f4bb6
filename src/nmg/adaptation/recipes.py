"""Recipes of `nmg adapt`: values for settings that the user leaves open.

A recipe is an ordinary configuration in `configs/recipes/`. If it leaves out the learning rate or the masking rate,
they depend on the size of the model and the length of the text. docs/results/recipes.md has the measurements.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from nmg.base.errors import UserError
from nmg.base.extras import install_command
from nmg.base.progress import Reporter
from nmg.base.training_settings import RecipeName
from nmg.config import Config, load_config
from nmg.config.shipped import configs_folder
from nmg.training.lora import LEARNING_RATE_FACTOR
from nmg.training.optimiser import has_stable_adamw

SECTIONS = ("masking", "adapt")
"""Sections that a recipe may contain."""
LEARNING_RATES = ((3e6, 2e-4), (2e8, 1e-4))
"""(maximum number of parameters besides the word table, learning rate), in ascending order."""
LARGE_LEARNING_RATE = 5e-5
"""Learning rate of larger models."""
MASKING_RATES = ((64.0, 0.15), (192.0, 0.2))
"""(maximum mean number of tokens in a block, masking rate), in ascending order."""
LONG_MASKING_RATE = 0.3
"""Masking rate of longer blocks."""


def learning_rate_for(parameters: int) -> float:
    """Return the learning rate for a model, by its size.

    Args:
        parameters: Number of parameters besides the word table.

    Returns:
        The peak learning rate of AdamW.

    >>> [learning_rate_for(int(n)) for n in (4e5, 1.1e7, 8.6e7, 3e8)]  # BERT-tiny, MiniLM, BERT-base, BERT-large
    [0.0002, 0.0001, 0.0001, 5e-05]
    """
    return next((rate for most, rate in LEARNING_RATES if parameters <= most), LARGE_LEARNING_RATE)


def masking_rate_for(length: float) -> float:
    """Return the masking rate for a text whose blocks have `length` tokens on average.

    >>> [masking_rate_for(n) for n in (30, 100, 250)]
    [0.15, 0.2, 0.3]
    """
    return next((rate for most, rate in MASKING_RATES if length <= most), LONG_MASKING_RATE)


@dataclass(frozen=True)
class Recipe:
    """The values of a recipe for one model and one text."""

    name: RecipeName
    values: Mapping[str, Any]
    """Setting (`section.field`) → value."""

    @classmethod
    def of(cls, name: RecipeName, parameters: int, length: float, *, is_lora: bool = False) -> "Recipe":
        """Read a recipe and add the values that depend on model and text.

        Args:
            name: Name of the recipe.
            parameters: Number of parameters of the model besides the word table.
            length: Mean number of tokens in a block.
            is_lora: Whether only low-rank matrices are trained.

        Returns:
            The recipe.
        """
        settings = load_config(configs_folder() / "recipes" / f"{name}.yaml")
        values = {
            f"{section}.{field}": getattr(getattr(settings, section), field)
            for section in SECTIONS
            for field in sorted(getattr(settings, section).model_fields_set)
        }
        rate = learning_rate_for(parameters) * (LEARNING_RATE_FACTOR if is_lora else 1.0)
        by_size = {"adapt.learning_rate": rate, "masking.rate": masking_rate_for(length)}
        return cls(name, by_size | values)

    def apply(self, config: Config, reporter: Reporter) -> Config:
        """Return the settings with the recipe's values for all settings that the user left open.

        Args:
            config: The settings; fields that were given explicitly keep their values.
            reporter: Receives a message if StableAdamW is not installed.

        Returns:
            A copy of the settings.

        Raises:
            UserError: The recipe contradicts a setting.
        """
        given = {f"{section}.{field}" for section in SECTIONS for field in getattr(config, section).model_fields_set}
        if "masking.rate" in given:  # the recipe's schedule would start at another rate
            given |= {"masking.rate_schedule", "masking.rate_end"}
        new = {name: value for name, value in self.values.items() if name not in given}
        if new.get("adapt.optimiser") == "stable-adamw" and not has_stable_adamw():
            advice = install_command("stable-adamw")
            reporter.notify(f"recipe {self.name}: AdamW is used; for StableAdamW, {advice}")
            del new["adapt.optimiser"]
        sections = config.model_dump()
        for name, value in new.items():
            section, _, field = name.partition(".")
            sections[section][field] = value
        try:
            return Config.model_validate(sections)
        except ValidationError as error:
            raise UserError(f"recipe {self.name}: {error.errors()[0]['msg']}") from error

    def changed(self, config: Config) -> list[str]:
        """Return the names of settings whose values in `config` are not those of the recipe."""
        return [name for name, value in self.values.items() if _value(config, name) != value]


def _value(config: Config, name: str) -> Any:
    section, _, field = name.partition(".")
    return getattr(getattr(config, section), field)
