"""Reads the cost of meta-training the policies of a comparison."""

from pathlib import Path

from nmg.base.json_lines import log_lines
from nmg.base.types import PHASES
from nmg.policies.storage import find_policy


def meta_training_seconds(folder: Path) -> float | None:
    """Return the seconds of all episodes of the run that produced the policy, or None if there is no such run.

    `folder` is the folder of a run or of the policy inside it. A policy that was copied elsewhere gives None.
    """
    run = find_policy(folder).resolve().parent
    if not (run / "metrics.jsonl").is_file() or not (run / "run.json").is_file():
        return None
    lines = log_lines(run / "metrics.jsonl")
    return sum(float(line["seconds"].get(phase, 0.0)) for line in lines for phase in PHASES)
