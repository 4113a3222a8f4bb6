"""Keeps the values of text settings as written.

YAML parses `4`, `no` and `2024-01-01` as a number, a boolean and a date. A setting whose type is text keeps the
original characters instead, because a column may be named `4`, a label `no`, or a file `123`.
"""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from nmg.config.schema import Config
from nmg.config.yaml_text import parse_yaml


def value_of_word(word: str, setting: str) -> Any:
    """Return the value of a command-line word for a setting `section.field` or `section.group.field`.

    A text setting keeps the word as typed, unless the word is quoted, is null, or is a list that the setting accepts.
    Raises YAMLError or ValueError if the word contains characters that YAML does not allow, or if the word is not valid
    YAML and the setting does not accept text.
    """
    types = _types_of(setting)
    try:
        value, node = parse_yaml(word), yaml.compose(word, yaml.SafeLoader)
    except yaml.reader.ReaderError:
        raise
    except (yaml.YAMLError, ValueError):
        if str in types:
            return word
        raise
    value = _as_written(value, node, types)
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    is_comment = node is None and bool(word)
    is_text = is_comment or isinstance(value, dict) or (isinstance(value, str) and is_plain)
    return word if str in types and is_text else value


def keep_written_text(settings: dict[str, Any], root: yaml.Node | None, prefix: str = "") -> None:
    """Replace each value by its text in the file if the setting accepts text but not the parsed value.

    Args:
        settings: Section → field → value, changed in place.
        root: YAML node of the same values.
        prefix: Dotted name of the section, with a dot at its end; empty for the whole file.
    """
    for name, node in _items(root):
        value = settings.get(name)
        if isinstance(value, dict):
            keep_written_text(value, node, f"{prefix}{name}.")
        elif name in settings:
            settings[name] = _as_written(value, node, _types_of(f"{prefix}{name}"))


def _items(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    """Yield the key and the value node of each item if the node is a mapping."""
    if isinstance(node, yaml.MappingNode):
        yield from ((key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))


def _as_written(value: Any, node: yaml.Node | None, types: frozenset[Any]) -> Any:
    """Return the text of a value if only a text type accepts it, else the value. Lists are converted item by item."""
    if isinstance(value, list) and isinstance(node, yaml.SequenceNode):
        members = frozenset(member for one in types if get_origin(one) is tuple for member in _types(get_args(one)[0]))
        return [_as_written(one, child, members) for one, child in zip(value, node.value, strict=True)]
    if not isinstance(node, yaml.ScalarNode) or value is None or str not in types or _takes(types, value):
        return value
    return node.value


def _takes(types: frozenset[Any], value: Any) -> bool:
    """Return whether one of the types accepts the value without conversion."""
    known = any(value in get_args(one) for one in types if get_origin(one) is Literal)
    return known or type(value) in types or (type(value) is int and float in types)


def _types_of(setting: str) -> frozenset[Any]:
    """Return the types of a setting over all kinds of its section; empty if there is no such setting."""
    types: frozenset[Any] = frozenset([Config])
    for name in setting.split("."):
        fields = [getattr(one, "model_fields", {}).get(name) for one in types]
        types = frozenset(one for found in fields if found is not None for one in _types(found.annotation))
    return types


def _types(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union without `Annotated` and None."""
    if get_origin(annotation) is Annotated:
        yield from _types(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _types(one)
    elif annotation is not NoneType:
        yield annotation
