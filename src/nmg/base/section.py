"""Types of settings: numbers with limits, names of contents, and the base class of all groups of settings."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def number_only(value: object) -> object:
    """Reject booleans: Python and pydantic accept True as 1, but a YAML `yes` in place of a number is a mistake."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")
    return value


Rate = Annotated[float, BeforeValidator(number_only), Field(gt=0.0, lt=1.0)]
Share = Annotated[float, BeforeValidator(number_only), Field(ge=0.0, le=1.0)]
PositiveShare = Annotated[float, BeforeValidator(number_only), Field(gt=0.0, le=1.0)]
ShareBelowOne = Annotated[float, BeforeValidator(number_only), Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, BeforeValidator(number_only), Field(gt=0.0)]
NonNegative = Annotated[float, BeforeValidator(number_only), Field(ge=0.0)]
LARGEST_COUNT = 2**63 - 1
"""Largest accepted count; arrays and files cannot hold larger integers."""
Count = Annotated[int, BeforeValidator(number_only), Field(ge=1, le=LARGEST_COUNT)]
CountOrZero = Annotated[int, BeforeValidator(number_only), Field(ge=0, le=LARGEST_COUNT)]
Seed = Annotated[int, BeforeValidator(number_only), Field(ge=0, lt=2**128)]


@dataclass(frozen=True)
class NamedContent:
    """Marks a setting whose text names content outside the settings, such as a file or a model.

    Results depend on the content, not on its name or path. `Config.digest` therefore ignores these settings, and runs
    and trials store digests of the content instead.
    """

    kind: Literal["data", "language model", "token classifier", "spaCy pipeline"]


DataFile: TypeAlias = Annotated[str, NamedContent("data")]
"""A file, a folder or a data set of the hub."""


class Section(BaseModel):
    """Base class of all groups of settings: immutable, validated, and without unknown fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _paths_as_text(cls, fields: Any) -> Any:
        """Return the fields with paths as text, as they are in a configuration file."""
        if not isinstance(fields, Mapping):
            return fields
        return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in fields.items()}


def named_contents(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, NamedContent, str | None]]:
    """Yield (setting, kind of content, name) for every setting that names content, including nested sections.

    The name is None if the setting is not given or holds the content itself.
    """
    for field, info in type(section).model_fields.items():
        value = getattr(section, field)
        if isinstance(value, BaseModel):
            yield from named_contents(value, f"{prefix}{field}.")
        elif (named := _marker((info.annotation, *info.metadata))) is not None:
            yield f"{prefix}{field}", named, value if isinstance(value, str) else None


def _marker(types: tuple[Any, ...]) -> NamedContent | None:
    """Return the `NamedContent` in a type's arguments at any depth, or None."""
    for one in types:
        found = one if isinstance(one, NamedContent) else _marker(get_args(one))
        if found is not None:
            return found
    return None


def default_kind(kind: str) -> BeforeValidator:
    """Return a validator that adds `kind` to settings without one, for a union with the discriminator `kind`."""
    return BeforeValidator(lambda fields: {"kind": kind, **fields} if isinstance(fields, Mapping) else fields)
