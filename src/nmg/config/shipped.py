"""Finds the configurations that come with nmg."""

import difflib
from pathlib import Path

from nmg.base.errors import UserError
from nmg.base.files import is_there


def configs_folder() -> Path:
    """Return the folder of the shipped configurations, in the installed package or in the source tree.

    Raises UserError if there is none.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if folder.is_dir():
            return folder
    raise UserError("the configurations that come with nmg are missing; reinstall nmg")


def shipped_names() -> list[str]:
    """Return the names of the shipped configurations, sorted."""
    return sorted(file.stem for file in configs_folder().glob("*.yaml"))


def config_file(path: Path) -> Path:
    """Return a configuration file: `path`, or the shipped one of that name if `path` is a plain name without a file.

    Raises UserError if there is neither; a path with a folder or an ending is returned as it is.
    """
    if path.suffix or len(path.parts) != 1 or is_there(path):
        return path
    names = shipped_names()
    if path.name in names:
        return configs_folder() / f"{path.name}.yaml"
    similar = difflib.get_close_matches(path.name, names, n=1)
    hint = f"Did you mean {similar[0]}?" if similar else f"Built in: {', '.join(names)}."
    raise UserError(f"there is neither a file nor a built-in configuration '{path.name}'. {hint}")
