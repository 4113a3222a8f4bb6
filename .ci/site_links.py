"""Hook of mkdocs: adds pages that are files of the repository, and turns links to files outside the site into names."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

LINK = re.compile(r"\[([^\]]+)\]\(((?!https?:|#|mailto:)[^)#]+)(#[^)]*)?\)")
PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Page of the site → its file in the repository."""
PLACES = {file: page for page, file in PAGES.items()}


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Replace links to files outside the site by names. Raises PluginError if a linked file does not exist."""
    root, name = Path(config["docs_dir"]).parent, page.file.src_uri
    source = PAGES.get(name, f"docs/{name}")
    if name in PAGES:
        markdown = (root / source).read_text(encoding="utf-8")

    def linked(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (root / file).exists():
            raise PluginError(f"{source}: links to {target}, which is not there")
        place = PLACES.get(file, file.removeprefix("docs/"))
        if file in PLACES or file.startswith("docs/"):
            return f"[{text}]({posixpath.relpath(place, posixpath.dirname(name) or '.')}{anchor})"
        return text if text.strip("`").startswith(file) else f"{text} (`{file}`)"

    return LINK.sub(linked, markdown)
