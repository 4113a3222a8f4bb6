"""Loads settings from a YAML file and the command line, with errors that name the source of each problem."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from nmg.base.errors import UserError, bad_input, shown
from nmg.base.files import user_path
from nmg.base.section import Section
from nmg.config.former_names import FORMER_NAMES
from nmg.config.schema import Config
from nmg.config.shipped import config_file
from nmg.config.text_values import keep_written_text, value_of_word
from nmg.config.yaml_text import lines_to, parse_yaml, repeated_keys

MAX_LENGTH = 256 * 2**10
"""Maximum size of a configuration file, in bytes."""
SHORT = {"--engine": "--runtime.engine", "--ray-address": "--runtime.ray_address"}
"""Short command-line option → full option `--section.field`."""


def load_config(
    path: str | os.PathLike[str] | None = None, overrides: Mapping[str, Any] | Sequence[str] = ()
) -> Config:
    """Load settings from a YAML file and override some of them.

    Args:
        path: The YAML file, or the name of a built-in configuration, such as `chemprot-frozen`. None uses the defaults.
        overrides: `section.field` → value. The command line passes its words `--section.field value` instead.

    Returns:
        The validated settings.

    Raises:
        UserError: If the file is missing or not valid YAML, a key is unknown, or a value is invalid. The message names
            the file, line and field, or the option.

    Example:
        ```python
        config = nmg.load_config("config.yaml", {"data.train": "train.jsonl", "meta.episodes": 50})
        ```
    """
    file = None if path is None else config_file(user_path(path))
    text = "" if file is None else _read(file)
    settings = {} if file is None else _parse(text, file)
    # YAML reads a section without fields as null.
    settings = {section: {} if fields is None else fields for section, fields in settings.items()}
    return _validated(settings, overrides, file or Path("defaults"), text)


def override(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Return the settings with some overridden, as `load_config` does. Raises UserError as `load_config` does."""
    if not overrides:
        return config
    given = {name: getattr(config, name) for name in Config.model_fields if name in config.model_fields_set}
    settings = {name: section.model_dump(exclude_unset=True) for name, section in given.items()}
    for name, section in given.items():
        if hasattr(section, "kind"):
            settings[name]["kind"] = section.kind
    return _validated(settings, overrides, Path("defaults"), "")


def _validated(settings: dict[str, Any], overrides: Mapping[str, Any] | Sequence[str], path: Path, text: str) -> Config:
    """Return the settings with `overrides` applied.

    Args:
        settings: Section → fields; changed in place.
        overrides: As for `load_config`.
        path: The configuration file that messages name.
        text: Content of the file.

    Returns:
        The validated settings.

    Raises:
        UserError: An override names no setting, or a value is invalid.
    """
    given = dict(overrides) if isinstance(overrides, Mapping) else _values_of_words(overrides)
    _apply_overrides(settings, given)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        overridden = {name: name if isinstance(overrides, Mapping) else f"--{name}" for name in given}
        raise _explain(error, path, text, overridden) from error


def _read(path: Path) -> str:
    """Read the text of a configuration file. Raises UserError if it is unreadable, too long or not UTF-8."""
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
    except ValueError as error:  # the path is not a valid file name
        raise bad_input(path, f"cannot read the configuration: {error}") from error
    if len(content) > MAX_LENGTH:
        raise bad_input(path, f"is larger than {MAX_LENGTH} bytes, the limit for a configuration file")
    return text


def _parse(text: str, path: Path) -> dict[str, Any]:
    """Parse the text of a file into sections, without checking their fields.

    Raises UserError if the text is not valid YAML, is not a mapping of sections, or has duplicate keys.
    """
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
        raise bad_input(path, "must contain sections with fields, e.g. 'masking: {rate: 0.05}'")
    for name in settings:
        if not isinstance(name, str):
            raise bad_input(path, f"the name of a section must be a word, not {shown(name)}")
    root = yaml.compose(text)
    for name, line in repeated_keys(root):
        raise bad_input(path, "duplicate key. Remove all but one.", line=line, field=name)
    keep_written_text(settings, root)
    return settings


def _values_of_words(overrides: Sequence[str]) -> dict[str, Any]:
    """Return dotted name → value of words of the command line. Raises UserError for a word that is no setting."""
    given: dict[str, Any] = {}
    words = list(overrides)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        name = SHORT.get(name, name)
        if not name.startswith("--") or name.count(".") not in {1, 2}:
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
    return given


def _apply_overrides(settings: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Set dotted name → value in `settings`, in place. Raises UserError for a name without a section."""
    for setting, value in given.items():
        if not isinstance(setting, str) or setting.count(".") not in {1, 2}:
            raise UserError(
                f"overrides: {shown(setting)} must be 'section.field', e.g. {{'data.train': 'train.jsonl'}}"
            )
        section, *group, field = setting.split(".")
        fields = settings
        for part in (section, *group):
            fields = fields.setdefault(part, {})
            if not isinstance(fields, dict):
                raise UserError(f"--{setting}: '{part}' is not a section in the configuration file")
        if field == "kind" and not group and value != fields.get("kind", _default_kind(section)):
            # The fields in the file belong to the kind in the file, so drop them.
            others = [name for name in fields if f"{section}.{name}" not in given]
            for name in others:
                del fields[name]
        fields[field] = value


def _default_kind(section: str) -> str | None:
    """Return the default kind of a section, or None if the section has no kinds."""
    field = Config.model_fields.get(section)
    return None if field is None else getattr(field.default, "kind", None)


def _explain(error: ValidationError, path: Path, text: str, overridden: Mapping[str, str]) -> UserError:
    """Convert a validation error into a UserError with one line per problem: its location and what is wrong.

    Args:
        error: Error of the schema.
        path: The configuration file that messages name.
        text: Content of the file.
        overridden: Dotted names of the overridden settings, with their names in messages.

    Returns:
        The error to raise.
    """
    root, problems = yaml.compose(text), []
    for problem in error.errors():
        blamed, message = _read_problem(problem)
        # An override of a field may have caused a problem that is reported for the whole section.
        within = tuple(f"{name}." for name in blamed)
        options = sorted(name for setting, name in overridden.items() if f"{setting}.".startswith(within))
        if options:
            problems.append(f"{', '.join(options)}: {_as_typed(message, options[0])}")
        else:
            name = max(blamed, key=lambda name: len(lines_to(root, name)))
            line = next(reversed(lines_to(root, name)), None)
            problems.append(str(bad_input(path, message, line=line, field=name)))
    return UserError("\n".join(problems))


def _as_typed(message: str, option: str) -> str:
    """Return a message with its suggestion as a whole name: 'masking' for --maskng.rate becomes --masking.rate."""
    dashes = "--" if option.startswith("--") else ""

    def suggested(found: re.Match[str]) -> str:
        meant = found["meant"]
        return f"did you mean '{dashes}{meant if '.' in meant else '.'.join([meant, *option.split('.')[1:]])}'"

    return re.sub(r"did you mean '(?P<meant>[\w.]+)'", suggested, message)


def _read_problem(problem: ErrorDetails) -> tuple[list[str], str]:
    """Return the sections or settings that may have caused a problem, and a message that says what is wrong."""
    location, kind = [str(part) for part in problem["loc"]], None
    if _default_kind(location[0]) is not None and len(location) > 1:
        kind = location.pop(1)  # pydantic adds the kind to the location if a section has several kinds
    message = problem["msg"].removeprefix("Value error, ")
    first, _, rest = message.partition(": ")
    section = Config.model_fields.get(location[0])
    if len(location) == 1 and section is not None and first in _fields_of(section, kind):
        location, message = [*location, first], rest  # a check of the whole section puts the field before a colon
    match problem["type"]:
        case "extra_forbidden":
            message = f"there is no such setting{_called(location, problem['input']) or _instead(location, kind)}"
        case "union_tag_invalid":
            known = problem["ctx"]["expected_tags"].replace("'", "")
            location, message = [location[0], "kind"], f"unknown kind '{problem['ctx']['tag']}' (known: {known})"
        case "model_type" | "model_attributes_type":
            message = f"must contain fields (given: {shown(problem['input'])})"
        case "misfit":
            return problem["ctx"]["settings"], message
        case _ if not isinstance(problem["input"], dict | Section):  # a whole section would not be informative
            message += f" (given: {shown(problem['input'])})"
    depth = 2 if section is None or len(location) < 2 or not _fields_within(section, location[1]) else 3
    return [".".join(location[:depth])], message


def setting_names() -> list[str]:
    """Return the dotted names of all settings, including those of every kind of policy and learner."""
    fields = {
        f"{section}.{name}{inner}": None
        for section, info in Config.model_fields.items()
        for names in _kinds_of(info).values()
        for name in names
        for inner in [f".{one}" for one in _fields_within(info, name)] or [""]
    }
    return list(fields)


def _called(location: Sequence[str], given: Any) -> str:
    """Return a suffix for an error message that gives the current names of renamed settings, or an empty string.

    Args:
        location: Section, or section and field, of the unknown setting.
        given: Value of the unknown setting; for a section, a dictionary of its fields.
    """
    if new := FORMER_NAMES.get(".".join(location[:2])):
        return f"; it is called {new}"
    fields = given if isinstance(given, dict) and len(location) == 1 else {}
    names = [f"{location[0]}.{field}" for field in fields]
    return "".join(f"; {name} is called {FORMER_NAMES[name]}" for name in names if name in FORMER_NAMES)


def _instead(location: Sequence[str], kind: str | None) -> str:
    """Return a suffix for an error message that suggests a name to use instead of an unknown one."""
    section = Config.model_fields.get(location[0])
    if len(location) == 1 or section is None:
        known = list(Config.model_fields)
    elif len(location) > 2:
        known = _fields_within(section, location[1])
    else:
        known = _fields_of(section, kind)
        if kinds := [other for other, fields in _kinds_of(section).items() if location[1] in fields]:
            listed = " and ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))
            return f"; it belongs to {location[0]}.kind {listed}"
    matches = difflib.get_close_matches(location[-1], known, n=1)
    meant = ".".join([*location[:-1], *matches])
    return f"; did you mean '{meant}'?" if matches else f" (known: {', '.join(known)})"


def _fields_of(section: FieldInfo, kind: str | None) -> list[str]:
    """Return the field names of a section, or of one of its kinds."""
    kinds = _kinds_of(section)
    return kinds[next(iter(kinds)) if kind is None else kind]


def _fields_within(section: FieldInfo, field: str) -> list[str]:
    """Return the field names of a section within a section, such as `adapt.lora`; empty for a plain setting."""
    info = getattr(section.annotation, "model_fields", {}).get(field)
    return list(getattr(info.annotation, "model_fields", {})) if info is not None else []


def _kinds_of(section: FieldInfo) -> dict[str, list[str]]:
    """Return kind → field names. A section without kinds has one entry with an empty name."""
    classes = get_args(section.annotation) or (section.annotation,)
    fields = [getattr(one, "model_fields", {}) for one in classes]
    return {f["kind"].default if len(classes) > 1 else "": list(f) for f in fields}
