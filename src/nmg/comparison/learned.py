"""The learned maskings of a comparison: which weights they have, and what learning them cost."""

import hashlib
from pathlib import Path

from nmg.policies.base import CONFIG, WEIGHTS
from nmg.policies.registry import find_policy
from nmg.runs.log import log_lines
from nmg.types import PHASES


def policy_digest(folder: Path) -> str:
    """Of the policy's files. `folder` is a run's or a policy's, and holds a policy."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update((find_policy(folder) / name).read_bytes())
    return digest.hexdigest()[:16]


def meta_training_seconds(folder: Path) -> float | None:
    """Seconds of all episodes of the run that the policy comes from; None where no run is around it.

    `folder` is a run's or the one of the policy in it. A policy that was copied elsewhere has lost its run.
    """
    run = find_policy(folder).resolve().parent
    if not (run / "metrics.jsonl").is_file() or not (run / "run.json").is_file():
        return None
    lines = log_lines(run / "metrics.jsonl")
    phases = ("encode", *PHASES)  # apart from the masks in old logs
    return sum(float(line["seconds"].get(phase, 0.0)) for line in lines for phase in phases)
