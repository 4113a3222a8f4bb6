"""The reference of all settings, read from their classes: name, type, default and meaning."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nmg.base.errors import UserError
from nmg.base.section import LARGEST_COUNT
from nmg.config.schema import Config

NAMES = {bool: "true | false", int: "integer", float: "number", str: "text", NoneType: "null"}
SIGNS = {Gt: ("gt", ">"), Ge: ("ge", "≥"), Lt: ("lt", "<"), Le: ("le", "≤")}
"""Class of a limit → its attribute and sign."""


@dataclass(frozen=True)
class SettingReference:
    """What a user needs to know about a setting."""

    name: str
    """`section.field`, or `section.group.field`."""
    kind: str
    """The `kind` of policy or learner that has the setting; empty for other sections."""
    type: str
    """The accepted values."""
    default: str
    meaning: str
    """One or more sentences, in one line."""

    def matches(self, text: str) -> bool:
        """Return whether the name or the meaning contains `text`, whatever its case."""
        return text.lower() in f"{self.name} {self.kind} {self.meaning}".lower()


def settings_reference() -> list[SettingReference]:
    """Return all settings, in the order of the sections."""
    return [one for name, info in Config.model_fields.items() for one in _of_section(name, info)]


def section_meanings() -> dict[str, str]:
    """Return section → the first sentence of its description."""
    descriptions = {name: _classes(info)[0].__doc__ or "" for name, info in Config.model_fields.items()}
    return {name: _one_line(text).partition(". ")[0].rstrip(".") for name, text in descriptions.items()}


def settings_within(place: str) -> list[SettingReference]:
    """Return the settings of a section, a group or a single setting: `adapt`, `adapt.lora`, `adapt.lora.rank`.

    Raises UserError with similar names if there is none.
    """
    every = settings_reference()
    found = [one for one in every if f"{one.name}.".startswith(f"{place}.")]
    if not found:
        similar = sorted({one.name for one in every if place.rpartition(".")[2] in one.name.split(".")})
        hint = f"did you mean {' or '.join(similar)}?" if similar else f"sections: {', '.join(Config.model_fields)}"
        raise UserError(f"there is no section or setting '{place}'; {hint}")
    return found


def _classes(info: FieldInfo) -> tuple[type[BaseModel], ...]:
    """Return the class of a section, or the classes of its kinds."""
    return get_args(info.annotation) or (info.annotation,)


def _of_section(name: str, info: FieldInfo) -> Iterator[SettingReference]:
    classes = _classes(info)
    for one in classes:
        kind = str(one.model_fields["kind"].default) if len(classes) > 1 else ""
        yield from _of_class(f"{name}.", kind, one)


def _of_class(prefix: str, kind: str, section: type[BaseModel]) -> Iterator[SettingReference]:
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _of_class(f"{prefix}{name}.", kind, inner)
            continue
        meaning = info.description or (section.__doc__ if name == "kind" else "") or ""
        types = _type_text(info.annotation, info.metadata)
        yield SettingReference(f"{prefix}{name}", kind, types, value_text(info.default), _one_line(meaning))


def _type_text(annotation: Any, metadata: list[Any]) -> str:
    """Return a type as text: the choices, or the kind of number with its limits."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        more = [inner for one in members[1:] for inner in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return _type_text(members[0], [*more, *metadata])
    if origin is Literal:
        return " | ".join(map(str, members))
    if origin in {Union, UnionType}:
        return " | ".join(_type_text(member, metadata) for member in members)
    if origin is tuple:
        return f"list of {_type_text(members[0], [])}"
    limits = []
    for one in metadata:
        attribute, sign = SIGNS.get(type(one), ("", ""))
        limit = getattr(one, attribute, None)
        if limit is not None and (not isinstance(limit, int) or abs(limit) < LARGEST_COUNT):
            limits.append(f"{sign} {limit:g}")
    is_number = annotation in {int, float}
    return " ".join([NAMES.get(annotation, "text"), ", ".join(limits if is_number else ())]).strip()


def value_text(value: Any) -> str:
    """Return a default as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
