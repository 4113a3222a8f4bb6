"""Write a bill of materials (CycloneDX) of an environment and look up known vulnerabilities (pip-audit).

python .ci/supply_chain.py PYTHON OUT

Writes OUT/sbom.json for the environment of PYTHON. The tools run in a separate environment, so the bill does not list
them. Exits with 1 if a vulnerability is known. If the tools or their database cannot be reached, it prints `skipped`
and exits with 0; it never reports this as a success.
"""

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOOLS = ("pip-audit==2.10.1", "cyclonedx-bom==7.5.0")


def main(python: str, out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tools = install_tools(Path(folder))
        if tools is None:
            print("supply chain: skipped: pip-audit and cyclonedx-bom cannot be installed (is there a network?)")
            return 0
        bill = ("cyclonedx-py", "environment", python, "--pyproject", "pyproject.toml", "--output-reproducible")
        subprocess.run([tools / bill[0], *bill[1:], "--output-file", out / "sbom.json"], check=True)
        n_parts = len(json.loads((out / "sbom.json").read_text(encoding="utf-8"))["components"])
        print(f"bill of materials: {out / 'sbom.json'}, {n_parts} packages")
        found = audit(tools / "pip-audit", site_packages(python))
    verdict, code = judge(found)
    print(f"known vulnerabilities: {verdict}")
    return code


def install_tools(folder: Path) -> Path | None:
    """Install the tools and return their folder, or None if they cannot be installed."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    pip = (programs / "python", "-m", "pip", "install", "--quiet", "--retries=1", *TOOLS)
    return programs if subprocess.run(pip, check=False, capture_output=True).returncode == 0 else None


def site_packages(python: str) -> str:
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout.strip()


def audit(program: Path, packages: str) -> Sequence[dict[str, Any]] | None:
    """Return the findings of pip-audit per package, or None if its database cannot be reached."""
    words = (program, "--path", packages, "--skip-editable", "--progress-spinner=off", "--timeout=15", "--format=json")
    answer = subprocess.run(words, check=False, capture_output=True, text=True)
    try:
        found: Sequence[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
    except ValueError:
        return None
    return found


def judge(packages: Sequence[dict[str, Any]] | None) -> tuple[str, int]:
    """Return a line to print and the exit code."""
    if packages is None:
        return "skipped: the data base cannot be reached", 0
    known = [package for package in packages if "vulns" in package]
    if not known:
        return f"skipped: the data base knows none of the {len(packages)} packages (a mirror without this data?)", 0
    problems = [
        f"{package['name']} {package['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or '–'}"
        for package in known
        for one in package["vulns"]
    ]
    asked = f"{len(known)} of {len(packages)} packages asked for"
    return "\n".join([f"{len(problems)} ({asked})", *problems]), int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
