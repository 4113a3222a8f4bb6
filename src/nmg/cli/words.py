"""Telling the configuration file from the settings beside it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from nmg.errors import UserError
from nmg.files import is_there, last_part, user_path


def configs_and_settings(config: Path | None, rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """Every CONFIG, and the words of '--section.field value', from the words that are no options of a command.

    Whatever such word comes first on the command line is handed over as CONFIG, also where it is the name of a setting
    ('--resume RUN --meta.episodes 9', '--meta.episodes 9 CONFIG'); here it goes where it belongs.
    """
    words = [*([str(config)] if config is not None else []), *rest]
    settings: list[str] = []
    found: list[str] = []
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            settings.append(word)
            if "=" not in word and words and not words[0].startswith("--"):
                settings.append(words.pop(0))
        else:
            found.append(word)
    return found, settings


def config_and_settings(config: Path | None, rest: Sequence[str]) -> tuple[Path | None, list[str]]:
    """As `configs_and_settings`, for a command that takes one; a second one is left to be refused with the settings."""
    found, settings = configs_and_settings(config, rest)
    return (Path(found[0]) if found else None), [*found[1:], *settings]


def required_configs(config: Path, rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """As `configs_and_settings`. Raises UserError where no word is left for CONFIG."""
    found, settings = configs_and_settings(config, rest)
    if not found:
        raise _no_config()
    return found, settings


def required_config(config: Path, rest: Sequence[str]) -> tuple[Path, list[str]]:
    """As `config_and_settings`. Raises UserError where no word is left for CONFIG."""
    found, settings = config_and_settings(config, rest)
    if found is None:
        raise _no_config()
    return found, settings


def _no_config() -> UserError:
    return UserError("name a configuration file: CONFIG.yaml")


def named_configs(words: Sequence[str]) -> dict[str, Path]:
    """['chemprot.yaml', 'news=runs/a/config.yaml'] → {'chemprot': chemprot.yaml, 'news': runs/a/config.yaml}.

    A `config.yaml` without a name is called as its folder, which is a run's. Raises UserError for a name that is taken.
    """

    def own_name(word: str) -> str:
        path = user_path(word).resolve()
        return path.parent.name if path.stem == "config" else path.stem

    return {name: user_path(place) for name, place in _named(words, "CONFIG", own_name).items()}


def named_models(words: str) -> dict[str, str]:
    """'bert-base-uncased,mine=lm/a' → {'bert-base-uncased': …, 'mine': lm/a}; without a name the last part of the path.

    Raises UserError for none, and for a name that is taken.
    """
    split = [word.strip() for word in words.split(",") if word.strip()]
    if not split:
        raise UserError("--models: name at least one model")
    return _named(split, "MODEL", last_part)


def _named(words: Sequence[str], what: str, own_name: Callable[[str], str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for word in words:
        name, equals, place = (part.strip() for part in word.partition("="))
        if not equals or is_there(user_path(word)):
            name, place = own_name(word), word
        if not name or not place or name in named:
            taken = f"'{name}' is also the name of {named[name]}; write" if name in named else "write"
            raise UserError(f"{word}: {taken} NAME={what}")
        named[name] = place
    return named


def split_names(maskings: str) -> list[str]:
    """The names, each once. Raises UserError for none."""
    names = list(dict.fromkeys(name.strip() for name in maskings.split(",") if name.strip()))
    if not names:
        raise UserError("--maskings: name at least one masking")
    return names
