"""`python -m nmg` is the command nmg."""

import subprocess
import sys
from importlib.metadata import version


def test_the_package_runs_as_a_module():
    run = subprocess.run([sys.executable, "-m", "nmg", "data", "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "Usage: python -m nmg data" in run.stdout


def test_it_says_its_version():
    run = subprocess.run([sys.executable, "-m", "nmg", "--version"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, f"nmg {version('nmg')}\n")
