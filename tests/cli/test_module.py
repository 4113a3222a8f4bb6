"""`python -m nmg` is the command nmg."""

import subprocess
import sys


def test_the_package_runs_as_a_module():
    run = subprocess.run([sys.executable, "-m", "nmg", "data", "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "Usage: python -m nmg data" in run.stdout
