"""The method gives the numbers that it gave: masks, counts and choices exactly, scores and weights nearly.

`golden.json` was made on one processor; others round otherwise, hence the tolerance. To compare two commits to the bit
on one machine, set GOLDEN_RECORD to a file for each of them: the test writes what it found there, with all digits.
A change that is meant to change results writes the file again, and its commit says why.
"""

import json
import math
import os
from pathlib import Path

import pytest

from support.command import Nmg
from support.golden import play
from support.runs import Inputs

GOLDEN = Path(__file__).with_name("golden.json")
RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""Processors with other vector instructions (AVX2, AVX-512) differ by 3e-5."""


def is_near(found: object, golden: object) -> bool:
    """Equal, or two floats that differ by rounding."""
    if isinstance(golden, float) and isinstance(found, float):
        return math.isclose(found, golden, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(found) is type(golden) and found == golden


def test_results_are_those_that_were_written_down(
    inputs: Inputs, tmp_path: Path, nmg: Nmg, monkeypatch: pytest.MonkeyPatch
):
    facts = play(inputs, tmp_path, nmg, monkeypatch)
    if record := os.environ.get("GOLDEN_RECORD"):
        Path(record).write_text(json.dumps(facts, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    different = {path: (facts.get(path), golden.get(path)) for path in sorted(set(facts) | set(golden))}
    different = {path: pair for path, pair in different.items() if path not in facts or not is_near(*pair)}
    assert not different


@pytest.mark.parametrize("found", [1.0, 1.0005])
def test_what_is_near(found: float):
    assert is_near(found, 1.0)


@pytest.mark.parametrize("found", [1.01, 1, None, "1.0"])
def test_what_is_not(found: object):
    assert not is_near(found, 1.0)
