"""Build wheel and sdist, check their metadata, and try the wheel in a clean environment: `make release`.

python .ci/release.py OUT

Writes OUT/nmg-VERSION-py3-none-any.whl and OUT/nmg-VERSION.tar.gz. Uploads nothing. Needs a network, because the tools
and the dependencies of nmg are installed into temporary environments. Exits with 1 if a check fails.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("hatchling==1.33.0", "twine==7.0.0")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main(out: Path) -> int:
    problems = disagreements(ROOT) + placeholders(ROOT)
    if problems:
        print("\n".join(problems))
        return 1
    for old in out.glob("nmg-*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        tools = environment(Path(folder) / "tools", TOOLS)
        subprocess.run([tools / "python", "-m", "hatchling", "build", "--directory", out], check=True, cwd=ROOT)
        built = sorted(out.glob("nmg-*"))
        subprocess.run([tools / "python", "-m", "twine", "check", "--strict", *built], check=True)
        (wheel,) = out.glob("*.whl")
        clean = environment(Path(folder) / "clean", ["--extra-index-url", CPU_INDEX, f"{wheel}[demo]"])
        try_wheel(clean, Path(folder))
    for path in built:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, checked")
    return 0


def placeholders(root: Path) -> list[str]:
    """Return a line for each file that still names OWNER, so that its addresses lead nowhere."""
    return [
        f"{name}: name the account that publishes the repository in place of OWNER (CONTRIBUTING.md has the command)"
        for name in ("pyproject.toml", "CITATION.cff")
        if "github.com/OWNER/" in (root / name).read_text(encoding="utf-8")
    ]


def disagreements(root: Path) -> list[str]:
    """Return what is wrong with the version: pyproject.toml, CHANGELOG.md and CITATION.cff must name the same one."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version, problems = project["version"], []
    dated = re.findall(
        r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    if not dated or dated[0][0] != version:
        problems.append(f"CHANGELOG.md: the newest dated version must be {version}, as in pyproject.toml")
    cited = dict(
        re.findall(
            r'^(version|date-released): "?([\w.-]+)"?$', (root / "CITATION.cff").read_text("utf-8"), re.MULTILINE
        )
    )
    if dated and (cited.get("version"), cited.get("date-released")) != dated[0]:
        problems.append(f"CITATION.cff: version and date-released must be {' and '.join(dated[0])}, as in CHANGELOG.md")
    return problems


def environment(folder: Path, requirements: Sequence[str]) -> Path:
    """Return the folder of programs of a new environment, after `pip install` with these words."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "--retries=1", "--disable-pip-version-check"]
    subprocess.run([*pip, *requirements], check=True)
    return programs


def try_wheel(programs: Path, folder: Path) -> None:
    """Run the command and a small job of everything with the installed wheel, outside of the checkout."""
    for words in (["--version"], ["--help"], ["demo", "--help"], ["validate", "chemprot-bert", "--quiet"]):
        subprocess.run([programs / "nmg", *words], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    environ.pop("PYTHONPATH", None)
    smoke = [programs / "python", ROOT / "tests" / "smoke.py", folder / "job"]
    subprocess.run(smoke, check=True, cwd=folder, env=environ, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
