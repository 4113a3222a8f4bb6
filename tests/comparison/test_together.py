"""Two processes that train together: what fails on one, or is on one, holds for both, and none waits for ever."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.planted import WORDS
from support.runs import Inputs
from support.tiny import save_headless_bert

from .helpers import save_policy


@pytest.fixture(scope="module")
def folder(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases of `support.fails_alone`, in one launch: half a minute."""
    folder = tmp_path_factory.mktemp("together")
    sections = inputs.sections(adapt={"batch_size": 8, "epochs": 2}, finetune={"batch_size": 8, "epochs": 1})
    (folder / "sections.json").write_text(json.dumps(sections))
    save_headless_bert(folder / "headless", WORDS, hidden=16)
    save_policy(folder / "policy")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    tests = Path(__file__).parents[1]
    run = subprocess.run(
        [*launcher, str(tests / "support" / "fails_alone.py"), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-5000:]
    return folder


def said(folder: Path, case: str) -> Any:
    """What both processes say."""
    first, second = (json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    return first


def test_a_full_disk_of_the_one_that_writes(folder: Path):
    assert said(folder, "full_disk") == {"error": "No space left on device (process 0 of 2)"}


def test_one_that_runs_out_of_memory_in_a_step(folder: Path):
    found = said(folder, "out_of_memory")
    assert list(found["failures"]) == ["random.seed-0"]
    assert found["failures"]["random.seed-0"].startswith("UserError: out of GPU memory while training on a single text")
    assert found["failures"]["random.seed-0"].endswith("(process 1 of 2)")
    assert list(found["cells"]) == ["idf.seed-0"], "the next cell is played, and by both"


def test_a_head_that_only_the_first_has(folder: Path):
    found = said(folder, "own_caches")
    assert found["kept"] == [2, 0], "weights and facts, in the first one's cache"
    assert found["first"]["failures"] == found["again"]["failures"] == {}
    assert found["first"]["cells"] == found["again"]["cells"], "the kept head is the trained one, in both"


def test_masks_that_one_chooses_for_both(folder: Path):
    found = said(folder, "own_rounding")
    assert found["failures"] == {}
    first, second = (json.loads((folder / f"positions-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert len(first) == 10, "a choice for each of the steps"


def test_cells_that_only_the_first_has(folder: Path):
    found = said(folder, "own_folder")
    assert list(found["cells"]) == ["random.seed-0", "idf.seed-0"]
    assert not (folder / "elsewhere" / "trials.jsonl").exists()


def test_another_file_on_another_machine(folder: Path):
    assert "data.train" in said(folder, "other_data")["error"]
    assert "not the same on all data-parallel processes" in said(folder, "other_data")["error"]


def test_a_folder_that_the_first_cannot_have(folder: Path):
    assert said(folder, "taken_folder") == {"error": "cannot be written (process 0 of 2)"}
