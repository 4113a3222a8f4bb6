"""Wheel and source distribution in clean environments, on the oldest and the newest torch and transformers.

`make test-install`; needs a network and takes minutes. Where the index lacks a release, that test is skipped.
"""

import re
import subprocess
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OUT_OF_REACH = ("No matching distribution found", "Temporary failure in name resolution", "ReadTimeoutError")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def oldest(name: str) -> str:
    """As pyproject.toml allows it: 'torch==2.6.*'."""
    (version,) = re.findall(rf'"{name}>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return f"{name}=={version}.*"


VERSIONS = {
    "oldest": [oldest("torch"), oldest("transformers")],
    "newest": ["torch", "transformers"],
}


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dist")
    python = environment(folder / "build")
    install(python, ["hatchling"])
    subprocess.run([python, "-m", "hatchling", "build", "--directory", folder / "out"], check=True, cwd=ROOT)
    return {"wheel": next(folder.glob("out/*.whl")), "sdist": next(folder.glob("out/*.tar.gz"))}


def environment(folder: Path) -> Path:
    """The Python of a new environment."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def install(python: Path, requirements: Sequence[str | Path]) -> None:
    pip = [python, "-m", "pip", "install", "--quiet", "--retries=1", "--upgrade-strategy=eager", *requirements]
    answer = subprocess.run([*pip, "--extra-index-url", CPU_INDEX], check=False, capture_output=True, text=True)
    if answer.returncode and any(sign in answer.stderr for sign in OUT_OF_REACH):
        pytest.skip(f"cannot be installed here: {answer.stderr.strip().splitlines()[-1]}")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("versions", VERSIONS)
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_clean_environment(kind: str, versions: str, distributions: dict[str, Path], tmp_path: Path):
    python = environment(tmp_path / "environment")
    install(python, [distributions[kind], *VERSIONS[versions]])
    words = [python, ROOT / "tests" / "smoke.py", tmp_path / "job"]
    answer = subprocess.run(words, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    print(answer.stdout.splitlines()[-1])


def test_the_distributions_hold_what_they_should(distributions: dict[str, Path]):
    with zipfile.ZipFile(distributions["wheel"]) as packed:
        wheel = packed.namelist()
    assert {
        "nmg/py.typed",
        "nmg/configs/chemprot-bert.yaml",
        "nmg/configs/recipes/default.yaml",
        "nmg/report/templates/page.css",
    } <= set(wheel)
    with tarfile.open(distributions["sdist"]) as packed_source:
        sdist = {name.partition("/")[2] for name in packed_source.getnames()}
    assert {"pyproject.toml", "LICENSE", "src/nmg/__init__.py", "configs/chemprot-bert.yaml"} <= sdist
    for names in (wheel, sdist):
        of_this_machine = ("runs/", ".venv/", "site/", "dist/", "benchmarks/out/")
        assert not [name for name in names if name.startswith(of_this_machine) or name.endswith((".pyc", ".env"))]
