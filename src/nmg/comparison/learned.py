"""The learned maskings of a comparison: what learning them cost."""

from pathlib import Path

from nmg.policies.storage import find_policy
from nmg.runs.log import log_lines
from nmg.types import PHASES


def meta_training_seconds(folder: Path) -> float | None:
    """Seconds of all episodes of the run that the policy comes from; None where no run is around it.

    `folder` is a run's or the one of the policy in it. A policy that was copied elsewhere has lost its run.
    """
    run = find_policy(folder).resolve().parent
    if not (run / "metrics.jsonl").is_file() or not (run / "run.json").is_file():
        return None
    lines = log_lines(run / "metrics.jsonl")
    return sum(float(line["seconds"].get(phase, 0.0)) for line in lines for phase in PHASES)
