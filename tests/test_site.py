"""The documentation builds as a site, without a warning; links to what a site does not have become names.

Its reference of commands and settings is that of the program.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nmg.cli import COMMANDS
from nmg.config.reference import settings_reference

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocstrings_handlers.python", reason="the site's packages are not installed (extra 'docs')")


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """As `make site` does it. Strict: a warning is an error."""
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(out)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)


def test_the_site(tmp_path: Path):
    built = build(ROOT / "mkdocs.yml", tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("load_config", "MaskingCollator", "learn", "Learner"):
        assert f'title="{name}"' in api or f">{name}<" in api, name
    settings = (tmp_path / "reference" / "settings" / "index.html").read_text(encoding="utf-8")
    for name in (one.name for one in settings_reference()):
        assert f"<code>{name}</code>" in settings, name
    commands = (tmp_path / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    for entry in COMMANDS:
        assert (f'id="nmg-{entry.name}"' in commands) != entry.is_hidden, entry.name
    page = (tmp_path / "how-to" / "python" / "index.html").read_text(encoding="utf-8")
    assert "<code>examples/compare_maskings.py</code>" in page
    assert "../examples" not in page
    assert not re.findall(r'(?:src|href)="https?://(?!github|squidfunk|www\.mkdocs)[^"]*\.(?:js|css|woff2?)"', page)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[gone](../gone.py)", "links to ../gone.py, which is not there"),
        ("[gone](gone.md)", "links to gone.md, which is not there"),
        ("[gone](index.md#gone)", "there is no such anchor on this page"),
        ("<!-- reference: gone -->", "there is no reference 'gone'; use settings, commands"),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, line: str, problem: str):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Title\n\n{line}\n")
    hooks = [str(ROOT / ".ci" / name) for name in ("site_reference.py", "site_links.py")]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\nhooks: {hooks}\nvalidation: {{anchors: warn}}\n")
    built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert built.returncode != 0
    assert problem in built.stdout + built.stderr
