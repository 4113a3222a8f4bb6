"""How to install the packages of an extra."""

import re
from importlib.metadata import PackageNotFoundError, requires

_EXTRA = re.compile(r"(?P<package>[^;]+?)\s*;.*\bextra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra of nmg by their own names.

    It also works if nmg itself is not on a package index, as in a clone of its repository. The packages are sorted by
    name: build tools write them into the metadata in different orders.
    """
    try:
        found = [found for line in requires("nmg") or () if (found := _EXTRA.fullmatch(line))]
    except PackageNotFoundError:
        found = []
    packages = sorted(f"'{one['package'].strip()}'" for one in found if one["extra"] == extra)
    return f"pip install {' '.join(packages)}" if packages else f"pip install 'nmg[{extra}]'"
