"""Settings from a YAML file and from words of the command line, with errors that say where they come from."""

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from nmg.config.former_names import FORMER_NAMES
from nmg.config.schema import Config
from nmg.config.text_values import keep_written_text, value_of_word
from nmg.config.yaml_text import lines_to, parse_yaml, repeated_keys
from nmg.errors import UserError, bad_input, shown
from nmg.settings import Section

MAX_LENGTH = 256 * 2**10
"""bytes of a configuration; it is a page or two"""
SHORT = {"--engine": "--runtime.engine", "--ray-address": "--runtime.ray_address"}
"""Settings that have a name of their own on the command line."""


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply overrides written as on the command line: `--section.field value` or `=value`.

    Without a file the defaults are what the overrides change.

    Raises UserError for a missing file, broken YAML, an unknown key or a value out of range, with file, line and field.
    """
    text = "" if path is None else _read(path)
    settings = {} if path is None else _parse(text, path)
    # A section whose fields are all commented out reads as null.
    settings = {section: {} if fields is None else fields for section, fields in settings.items()}
    overridden = _apply_overrides(settings, overrides)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise _explain(error, path or Path("defaults"), text, overridden) from error


def _read(path: Path) -> str:
    try:
        if not path.is_file() and not path.is_dir() and path.exists():
            raise bad_input(path, "cannot read the configuration: it is a device or a pipe, not a file")
        with path.open("rb") as file:
            content = file.read(MAX_LENGTH + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise bad_input(path, f"cannot read the configuration: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise bad_input(path, "cannot read the configuration: it is not UTF-8 text") from error
    except ValueError as error:  # a name that no file can have
        raise bad_input(path, f"cannot read the configuration: {error}") from error
    if len(content) > MAX_LENGTH:
        raise bad_input(path, f"is longer than {MAX_LENGTH} bytes, which no configuration is")
    return text


def _parse(text: str, path: Path) -> dict[str, Any]:
    """The sections of a file, whatever they hold."""
    try:
        settings = parse_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else None
        raise bad_input(path, f"is not valid YAML: {getattr(error, 'problem', error)}", line=line) from error
    except ValueError as error:
        raise bad_input(path, f"is not valid YAML: {error}") from error
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise bad_input(path, "must hold sections with fields, e.g. 'masking: {rate: 0.05}'")
    for name in settings:
        if not isinstance(name, str):
            raise bad_input(path, f"the name of a section must be a word, not {shown(name)}")
    root = yaml.compose(text)
    for name, line in repeated_keys(root):
        raise bad_input(path, "stands here a second time; only one can count", line=line, field=name)
    keep_written_text(settings, root)
    return settings


def _apply_overrides(settings: dict[str, Any], overrides: Sequence[str]) -> set[str]:
    """Write overrides into `settings`; returns the dotted names of the settings that they set."""
    given: dict[str, Any] = {}
    words = list(overrides)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        name = SHORT.get(name, name)
        if not name.startswith("--") or name.count(".") != 1:
            raise UserError(f"'{word}' is neither an option of this command nor a setting '--section.field value'")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"{name} needs a value")
            value = words.pop(0)
        setting = name.removeprefix("--").replace("-", "_")
        try:
            given[setting] = value_of_word(value, setting)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"{name}: cannot read the value '{value}'") from error
    for setting, value in given.items():
        section, field = setting.split(".")
        fields = settings.setdefault(section, {})
        if not isinstance(fields, dict):
            raise UserError(f"--{setting}: '{section}' is not a section in the configuration file")
        if field == "kind" and value != fields.get("kind", _default_kind(section)):
            # The fields in the file belong to the kind that the file names.
            others = [name for name in fields if f"{section}.{name}" not in given]
            for name in others:
                del fields[name]
        fields[field] = value
    return set(given)


def _default_kind(section: str) -> str | None:
    field = Config.model_fields.get(section)
    return None if field is None else getattr(field.default, "kind", None)


def _explain(error: ValidationError, path: Path, text: str, overridden: Collection[str]) -> UserError:
    """Returns one sentence per problem: where it is, and what is wrong.

    Args:
        error: what the schema refused.
        path: the configuration file, to be named.
        text: its content.
        overridden: dotted names of the settings that the command line set.
    """
    root, problems = yaml.compose(text), []
    for problem in error.errors():
        blamed, message = _read_problem(problem)
        # What a section as a whole is blamed for may come from an override of one of its fields.
        within = tuple(f"{name}." for name in blamed)
        options = sorted(setting for setting in overridden if f"{setting}.".startswith(within))
        if options:
            problems.append(f"{', '.join(f'--{option}' for option in options)}: {message}")
        else:
            name = max(blamed, key=lambda name: len(lines_to(root, name)))
            line = next(reversed(lines_to(root, name)), None)
            problems.append(str(bad_input(path, message, line=line, field=name)))
    return UserError("\n".join(problems))


def _read_problem(problem: ErrorDetails) -> tuple[list[str], str]:
    """The sections or settings that may be to blame, and what is wrong."""
    location, kind = [str(part) for part in problem["loc"]], None
    if _default_kind(location[0]) is not None and len(location) > 1:
        kind = location.pop(1)  # a section that is of one kind or another is blamed under its kind
    message = problem["msg"].removeprefix("Value error, ")
    first, _, rest = message.partition(": ")
    section = Config.model_fields.get(location[0])
    if len(location) == 1 and section is not None and first in _fields_of(section, kind):
        location, message = [*location, first], rest  # a check that needs more than the section to know
    match problem["type"]:
        case "extra_forbidden":
            message = f"there is no such setting{_called(location, problem['input']) or _instead(location, kind)}"
        case "union_tag_invalid":
            known = problem["ctx"]["expected_tags"].replace("'", "")
            location, message = [location[0], "kind"], f"there is no '{problem['ctx']['tag']}' (known: {known})"
        case "model_type" | "model_attributes_type":
            message = f"must hold fields (given: {shown(problem['input'])})"
        case "misfit":
            return problem["ctx"]["settings"], message
        case _ if not isinstance(problem["input"], dict | Section):  # a whole section would say nothing
            message += f" (given: {shown(problem['input'])})"
    return [".".join(location[:2])], message


def setting_names() -> list[str]:
    """Dotted names of all settings, those of every kind of policy and learner included."""
    fields = {
        f"{section}.{name}": None
        for section, info in Config.model_fields.items()
        for names in _kinds_of(info).values()
        for name in names
    }
    return list(fields)


def _called(location: Sequence[str], given: Any) -> str:
    """Returns the new names of settings that are written under former ones, to be put after a sentence.

    Args:
        location: section, or section and field, of what is not known there.
        given: its value; the fields of a section.
    """
    if new := FORMER_NAMES.get(".".join(location[:2])):
        return f"; it is called {new}"
    fields = given if isinstance(given, dict) and len(location) == 1 else {}
    names = [f"{location[0]}.{field}" for field in fields]
    return "".join(f"; {name} is called {FORMER_NAMES[name]}" for name in names if name in FORMER_NAMES)


def _instead(location: Sequence[str], kind: str | None) -> str:
    """What to write in the place of a name that is not known there, to be put after a sentence."""
    section = Config.model_fields.get(location[0])
    if len(location) == 1 or section is None:
        known = list(Config.model_fields)
    else:
        known = _fields_of(section, kind)
        if kinds := [other for other, fields in _kinds_of(section).items() if location[1] in fields]:
            listed = " and ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))
            return f"; it belongs to {location[0]}.kind {listed}"
    matches = difflib.get_close_matches(location[-1], known, n=1)
    return f"; did you mean '{matches[0]}'?" if matches else f" (known: {', '.join(known)})"


def _fields_of(section: FieldInfo, kind: str | None) -> list[str]:
    """Names of the fields of a section, or of one of its kinds."""
    kinds = _kinds_of(section)
    return kinds[next(iter(kinds)) if kind is None else kind]


def _kinds_of(section: FieldInfo) -> dict[str, list[str]]:
    """Kind → names of its fields. A section that is always of one kind has it under an empty name."""
    classes = get_args(section.annotation) or (section.annotation,)
    fields = [getattr(one, "model_fields", {}) for one in classes]
    return {f["kind"].default if len(classes) > 1 else "": list(f) for f in fields}
