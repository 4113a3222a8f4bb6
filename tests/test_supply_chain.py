"""What CI says of the packages it installs, and the hashes it installs them by."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([\w.-]+)==([\w.+!-]+)", flags=re.MULTILINE)


@pytest.fixture(scope="module")
def supply_chain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply_chain", ROOT / ".ci" / "supply_chain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOUND = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


def test_a_known_vulnerability_fails(supply_chain: ModuleType):
    verdict, code = supply_chain.judge([SOUND, BAD, UNKNOWN])
    assert code == 1
    assert verdict == "1 (2 of 3 packages asked for)\nb 2: PYSEC-1, mended in 3"


def test_none_known(supply_chain: ModuleType):
    assert supply_chain.judge([SOUND, UNKNOWN]) == ("0 (1 of 2 packages asked for)", 0)


@pytest.mark.parametrize("packages", [None, [UNKNOWN]])
def test_nobody_to_ask_is_said_to_be_no_success(supply_chain: ModuleType, packages: list[dict[str, str]] | None):
    verdict, code = supply_chain.judge(packages)
    assert code == 0
    assert verdict.startswith("skipped: ")


def test_every_package_of_ci_has_its_hashes():
    text = (ROOT / ".ci" / "requirements.txt").read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert len(entries) > 50
    assert not [entry for entry in entries if "--hash=sha256:" not in entry]
    assert "torch" not in dict(PIN.findall(text)), "its builds differ: Makefile"


def test_the_versions_of_ci_are_those_of_the_constraints():
    """`make hashes` makes the file anew."""
    pinned = dict(PIN.findall((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    hashed = dict(PIN.findall((ROOT / ".ci" / "requirements.txt").read_text(encoding="utf-8")))
    assert len(set(pinned) & set(hashed)) > 15
    assert {name: hashed[name] for name in pinned if name in hashed} == {
        name: version for name, version in pinned.items() if name in hashed
    }
