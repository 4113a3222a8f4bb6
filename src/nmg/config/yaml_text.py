"""YAML as text that anyone may have written: values, and where its keys stand."""

from collections.abc import Iterator
from typing import Any

import yaml

MAX_VALUES = 10_000
"""keys and values of a text; what an alias stands for counts each time"""
MAX_DEPTH = 20
"""sections within sections; a configuration has two or three"""


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises YAMLError for what is no YAML, ValueError for a value that is not of its type, and for a text that is nested
    deeper, or has more values, than any configuration: a few lines of aliases can stand for billions.
    """
    try:
        _check_depth(text)
        _check_size(yaml.compose(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:  # of a tag, e.g. `!!bool maybe`
        raise ValueError("a value is not of the type that its tag says") from error


def _check_depth(text: str) -> None:
    """Event by event: of a text nested deeper, PyYAML's scanner takes seconds, and its composer all of the stack."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _too_deep()


def _check_size(root: yaml.Node | None) -> None:
    n_values, waiting = 0, [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        n_values += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        if n_values > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES} values")
        if isinstance(node, yaml.MappingNode):
            waiting += [(child, depth + 1) for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(child, depth + 1) for child in node.value]


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {MAX_DEPTH} deep")


def repeated_keys(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Name and line of each key that its mapping has had before; YAML itself would silently take the last."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name in seen:
            yield name, key.start_mark.line + 1
        seen.add(name)
        yield from repeated_keys(value, f"{name}.")


def lines_to(node: yaml.Node | None, name: str) -> list[int]:
    """Lines (from 1) of the keys on the way to a dotted name, as far as they exist."""
    lines: list[int] = []
    for part in name.split("."):
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((key, value) for key, value in node.value if key.value == part), None)
        if found is None:
            break
        key, node = found
        lines.append(key.start_mark.line + 1)
    return lines
