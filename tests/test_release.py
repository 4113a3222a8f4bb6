"""What an index shows of a release: one version everywhere, addresses, classifiers and extras."""

import importlib.util
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def release() -> ModuleType:
    return loaded(ROOT / ".ci" / "release.py")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_one_version_everywhere(release: ModuleType):
    assert release.disagreements(ROOT) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("CHANGELOG.md", "## [0.1.0] - ", "## [0.0.9] - ", "CHANGELOG.md: the newest dated version must be 0.1.0"),
        ("CITATION.cff", 'version: "0.1.0"', 'version: "0.2.0"', "CITATION.cff: version and date-released must be"),
        ("CITATION.cff", "2026-11-29", "2026-11-28", "CITATION.cff: version and date-released must be"),
    ],
)
def test_another_version_is_found(release: ModuleType, tmp_path: Path, file: str, old: str, new: str, said: str):
    for name in ("pyproject.toml", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    assert [problem[: len(said)] for problem in release.disagreements(tmp_path)][:1] == [said]


def test_a_release_with_addresses_that_lead_nowhere_is_refused(
    release: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(release, "placeholders", lambda _root: ["pyproject.toml: OWNER"])
    assert release.main(tmp_path) == 1
    assert capsys.readouterr().out == "pyproject.toml: OWNER\n"
    assert not list(tmp_path.iterdir()), "nothing was built"
    monkeypatch.undo()
    for owner, files in (("OWNER", ["pyproject.toml", "CITATION.cff"]), ("someone", [])):
        for name in ("pyproject.toml", "CITATION.cff"):
            (tmp_path / name).write_text(f"https://github.com/{owner}/nmg")
        assert [line.split(":")[0] for line in release.placeholders(tmp_path)] == files


def test_links_of_the_readme_are_absolute_on_an_index(monkeypatch: pytest.MonkeyPatch, project: dict[str, Any]):
    interface = ModuleType("interface")
    interface.MetadataHookInterface = object  # type: ignore[attr-defined]  # the build has hatchling, a test need not
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
    for package in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    hook = loaded(ROOT / "hatch_build.py").AbsoluteReadme()
    hook.root = str(ROOT)
    metadata = {"urls": {"Homepage": "https://github.com/someone/nmg"}}
    hook.update(metadata)
    text = metadata["readme"]["text"]
    assert "](https://github.com/someone/nmg/blob/main/docs/api.md)" in text
    assert "![" in text
    assert "](https://github.com/someone/nmg/raw/main/docs/images/inspect.png)" in text
    assert not [address for address in re.findall(r"\]\(([^)]+)\)", text) if not address.startswith(("https:", "#"))]
    assert "readme" in project["dynamic"]


def test_what_an_index_shows(project: dict[str, Any]):
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= set(project["urls"])
    assert {"Programming Language :: Python :: 3.11", "Operating System :: OS Independent"} <= set(
        project["classifiers"]
    )
    assert not [name for name in project["classifiers"] if name.startswith("License ::")], "`license` says it"


def test_extras_install_from_an_index(project: dict[str, Any]):
    """No extra names a file, a folder or an address; an extra of nmg in another one exists."""
    extras = project["optional-dependencies"]
    for requirements in extras.values():
        for one in map(Requirement, requirements):
            assert one.url is None
            assert one.name != "nmg" or one.extras <= set(extras)


def test_the_citation_names_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["references"][0]["url"] == "https://arxiv.org/abs/2010.02705"
