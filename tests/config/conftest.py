"""Configurations from texts."""

from pathlib import Path

import pytest

from nmg.base.errors import UserError
from nmg.config import Config, load_config


@pytest.fixture
def load(tmp_path: Path):
    """Loads a text as a configuration file, with overrides."""

    def load_text(text: str, *overrides: str) -> Config:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides)

    return load_text


@pytest.fixture
def problem(load):
    """The message that a text and overrides give."""

    def message(text: str, *overrides: str) -> str:
        with pytest.raises(UserError) as error:
            load(text, *overrides)
        return str(error.value)

    return message
