"""Two processes that share every batch: an interrupted adaptation ends as an uninterrupted one, to the bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import MakeConfig
from .test_resume import content

SCRIPT = Path(__file__).parents[1] / "support" / "resumes_together.py"


@pytest.mark.slow
def test_two_processes_resume_to_the_bit(make_config: MakeConfig, tmp_path: Path):
    """Each process has dropout of its own, and its share of joined documents."""
    adapting = {"join_documents": True, "block_size": 60, "evaluate_every": 3, "patience": 9}
    config = make_config(adapt=adapting, runtime={"checkpoint_minutes": 0})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run = subprocess.run(
        [*launcher, str(SCRIPT), str(tmp_path), "5"], capture_output=True, text=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    whole, out = content(tmp_path / "whole"), content(tmp_path / "out")
    assert out == whole
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert facts["is_finished"]
    assert facts["processes"] == 2
