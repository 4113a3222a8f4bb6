"""Settings from the arguments of a Python call: a configuration, a folder of a run, or just a data file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from nmg.base.errors import UserError, shown, unknown_argument
from nmg.base.files import is_folder, is_there, user_path
from nmg.config.load import load_config, override
from nmg.config.schema import Config

AnyPath: TypeAlias = str | os.PathLike[str]
Source: TypeAlias = Config | AnyPath
"""Settings; or a path: a configuration file, the name of one that nmg ships, a folder of a run, or a data file."""


class Settings(TypedDict, total=False):
    """The settings that functions such as `nmg.learn` take as arguments."""

    model: AnyPath
    task: str
    train: AnyPath
    validation: AnyPath
    test: AnyPath
    corpus: AnyPath
    rate: float
    seed: int


SETTINGS: Mapping[str, str] = {
    "model": "model.name",
    "task": "data.task",
    "train": "data.train",
    "validation": "data.validation",
    "test": "data.test",
    "corpus": "data.corpus",
    "rate": "masking.rate",
    "seed": "run.seed",
}
"""Argument → dotted name of the setting."""


def config_of(
    source: Source | None,
    settings: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    call: str,
    data: Literal["train", "corpus"] = "train",
) -> Config:
    """Return the settings that the arguments of a call describe.

    Args:
        source: The settings, or what to read them from. None uses the defaults.
        settings: Arguments named in `SETTINGS`.
        overrides: Dotted name → value of any other settings.
        call: Name of the function, for messages.
        data: The setting of `data` that a data file in place of a configuration stands for.

    Returns:
        The validated settings.

    Raises:
        UserError: An argument is unknown, or a file or setting is invalid.

    >>> config_of("train.jsonl", {"model": "bert-base-uncased"}, {"run.seed": 3}, call="nmg.learn").data.train
    'train.jsonl'
    """
    for name in settings:
        if name not in SETTINGS:
            raise unknown_argument(call, name, [*SETTINGS, "overrides"])
    given = {SETTINGS[name]: value for name, value in settings.items()} | dict(overrides or {})
    if source is None:
        return load_config(None, given)
    if isinstance(source, Config):
        return override(source, given)
    if not isinstance(source, str | os.PathLike):
        raise UserError(f"{call}: give settings (a Config), a configuration file or a data file, not {shown(source)}")
    file = _configuration_file(os.fspath(source))
    if file is not None:
        return load_config(file, given)
    return load_config(None, {f"data.{data}": os.fspath(source)} | given)


def _configuration_file(name: str) -> Path | None:
    """Return the configuration that a name stands for, as `load_config` reads it, or None if it is the name of data."""
    path = user_path(name)
    if is_folder(path):
        return path / "config.yaml" if (path / "config.yaml").is_file() else None
    is_plain = not path.suffix and len(path.parts) == 1 and not is_there(path)
    return path if is_plain or path.suffix in {".yaml", ".yml"} else None
