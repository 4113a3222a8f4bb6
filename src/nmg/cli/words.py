"""Separates configuration files from settings on the command line, and parses lists of names."""

from collections.abc import Callable, Sequence
from pathlib import Path

from nmg.base.errors import UserError
from nmg.base.files import is_there, last_part, user_path


def configs_and_settings(config: Path | None, rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the words that are not options of a command into CONFIG files and '--section.field value' words.

    typer passes the first such word as CONFIG even if it names a setting, as in '--resume RUN --meta.episodes 9' and
    '--meta.episodes 9 CONFIG'. This function assigns it to the settings.

    Args:
        config: The word that typer took for CONFIG, or None.
        rest: The other words.

    Returns:
        The configuration files, and the words of the settings.
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
    """Separate one CONFIG file from the words of settings, as `configs_and_settings` does.

    A second CONFIG is returned with the settings, whose parser rejects it.
    """
    found, settings = configs_and_settings(config, rest)
    return (Path(found[0]) if found else None), [*found[1:], *settings]


def required_configs(config: Path | None, rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate words as `configs_and_settings` does. Raises UserError if there is no CONFIG."""
    found, settings = configs_and_settings(config, rest)
    if not found:
        raise _no_config()
    return found, settings


def required_config(config: Path, rest: Sequence[str]) -> tuple[Path, list[str]]:
    """Separate words as `config_and_settings` does. Raises UserError if there is no CONFIG."""
    found, settings = config_and_settings(config, rest)
    if found is None:
        raise _no_config()
    return found, settings


def _no_config() -> UserError:
    return UserError("name a configuration file: CONFIG.yaml")


def named_configs(words: Sequence[str]) -> dict[str, Path]:
    """Parse words of the form 'FILE' or 'NAME=FILE' and return name → file.

    For example, ['chemprot.yaml', 'news=runs/a/config.yaml'] gives the names 'chemprot' and 'news'. A `config.yaml`
    without a name is named after its folder, usually that of a run. Raises UserError for a duplicate name.
    """

    def own_name(word: str) -> str:
        path = user_path(word).resolve()
        return path.parent.name if path.stem == "config" else path.stem

    return {name: user_path(place) for name, place in _named(words, "CONFIG", own_name).items()}


def named_models(words: str) -> dict[str, str]:
    """Parse 'MODEL' or 'NAME=MODEL', separated by commas, and return name → model.

    For example, 'bert-base-uncased,mine=lm/a' gives the names 'bert-base-uncased' and 'mine'. A model without a name
    is named by the last part of its path. Raises UserError if there is no model, or for a duplicate name.
    """
    split = [word.strip() for word in words.split(",") if word.strip()]
    if not split:
        raise UserError("--models: name at least one model")
    return _named(split, "MODEL", last_part)


def _named(words: Sequence[str], what: str, own_name: Callable[[str], str]) -> dict[str, str]:
    """Parse 'NAME=VALUE' or 'VALUE' and return name → value. `own_name` returns the name of a value without one."""
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
    """Return the distinct names in a comma-separated list. Raises UserError if the list is empty."""
    names = list(dict.fromkeys(name.strip() for name in maskings.split(",") if name.strip()))
    if not names:
        raise UserError("--maskings: name at least one masking")
    return names
