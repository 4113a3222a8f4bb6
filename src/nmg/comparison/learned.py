"""Reads facts about the policies of a comparison: the cost of learning them, and the rules that they equal."""

from pathlib import Path

from nmg.base.errors import UserError
from nmg.base.json_lines import log_lines
from nmg.base.types import PHASES
from nmg.policies.registry import load_policy
from nmg.policies.storage import find_policy


def equal_rule(folder: Path) -> str | None:
    """Return the words for the rule that the policy in `folder` equals, or None if it equals no known rule."""
    try:
        return load_policy(folder).as_rule()
    except UserError:  # it was moved after its trials had run
        return None


def meta_training_seconds(folder: Path) -> float | None:
    """Return the seconds of all episodes of the run that produced the policy, or None if there is no such run.

    `folder` is the folder of a run or of the policy inside it. A policy that was copied elsewhere gives None.
    """
    run = find_policy(folder).resolve().parent
    if not (run / "metrics.jsonl").is_file() or not (run / "run.json").is_file():
        return None
    lines = log_lines(run / "metrics.jsonl")
    return sum(float(line["seconds"].get(phase, 0.0)) for line in lines for phase in PHASES)
