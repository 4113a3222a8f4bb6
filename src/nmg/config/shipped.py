"""Finds the configurations that come with nmg."""

from pathlib import Path

from nmg.base.errors import UserError


def configs_folder() -> Path:
    """Return the folder of the shipped configurations, in the installed package or in the source tree.

    Raises UserError if there is none.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if folder.is_dir():
            return folder
    raise UserError("the configurations that come with nmg are missing; reinstall nmg")
