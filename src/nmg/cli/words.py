"""Telling the configuration file from the settings beside it."""

from collections.abc import Sequence
from pathlib import Path

from nmg.errors import UserError


def config_and_settings(config: Path | None, rest: Sequence[str]) -> tuple[Path | None, list[str]]:
    """CONFIG, and the words of '--section.field value', from the words that are no options of a command.

    Whatever such word comes first on the command line is handed over as CONFIG, also where it is the name of a setting
    ('--resume RUN --meta.episodes 9', '--meta.episodes 9 CONFIG'); here it goes where it belongs.
    """
    words = [*([str(config)] if config is not None else []), *rest]
    settings: list[str] = []
    found: Path | None = None
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            settings.append(word)
            if "=" not in word and words and not words[0].startswith("--"):
                settings.append(words.pop(0))
        elif found is None:
            found = Path(word)
        else:
            settings.append(word)  # refused with the settings
    return found, settings


def required_config(config: Path, rest: Sequence[str]) -> tuple[Path, list[str]]:
    """As `config_and_settings`. Raises UserError where no word is left for CONFIG."""
    found, settings = config_and_settings(config, rest)
    if found is None:
        raise UserError("name a configuration file: CONFIG.yaml")
    return found, settings


def split_names(maskings: str) -> list[str]:
    """The names, each once. Raises UserError for none."""
    names = list(dict.fromkeys(name.strip() for name in maskings.split(",") if name.strip()))
    if not names:
        raise UserError("--maskings: name at least one masking")
    return names
