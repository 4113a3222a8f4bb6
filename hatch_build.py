"""Build hook: makes the links of the README absolute, because a package index lacks the files that they name."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)]+)\)")
"""A link or an image whose address is relative, in Markdown."""


class AbsoluteReadme(MetadataHookInterface):
    """Sets the field `readme` of the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add README.md with absolute links to `metadata`, the table `project` of pyproject.toml."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        readme = absolute_links(text, metadata["urls"]["Homepage"])
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}


def absolute_links(text: str, home: str) -> str:
    """Return Markdown whose relative links lead to the branch `main` of the repository at `home`."""

    def absolute(match: re.Match[str]) -> str:
        kind = "raw" if match[1] else "blob"
        return f"{match[1]}[{match[2]}]({home}/{kind}/main/{match[3]})"

    return LINK.sub(absolute, text)
