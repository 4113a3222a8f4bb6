"""Parses untrusted YAML safely and finds the lines of its keys."""

from collections.abc import Iterator
from typing import Any

import yaml

MAX_VALUES = 10_000
"""Maximum number of keys and values; the target of an alias counts each time."""
MAX_DEPTH = 20
"""Maximum nesting depth; a configuration needs two or three levels."""


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises YAMLError if the text is not valid YAML. Raises ValueError if a value does not match its tag, or if the text
    exceeds `MAX_DEPTH` or `MAX_VALUES`. The limits are needed because a few lines of aliases can expand to billions of
    values.
    """
    try:
        _check_depth(text)
        _check_size(yaml.compose(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:  # invalid tag, e.g. `!!bool maybe`
        raise ValueError("a value does not match its tag") from error


def _check_depth(text: str) -> None:
    """Raise ValueError if the text is nested too deeply.

    The check reads single events. On deeply nested text, PyYAML's scanner takes seconds and its composer overflows the
    stack.
    """
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _too_deep()


def _check_size(root: yaml.Node | None) -> None:
    """Raise ValueError if the document has too many values or is nested too deeply after expanding aliases."""
    n_values, waiting = 0, [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        n_values += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        if n_values > MAX_VALUES:
            raise ValueError(f"it contains more than {MAX_VALUES} values")
        if isinstance(node, yaml.MappingNode):
            waiting += [(child, depth + 1) for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(child, depth + 1) for child in node.value]


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def repeated_keys(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield the dotted name and line (from 1) of each duplicate key.

    Most YAML parsers silently use the last of several equal keys.
    """
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
    """Return the line (from 1) of each key along a dotted name, up to the first missing key."""
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
