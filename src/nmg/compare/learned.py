"""The learned maskings of a comparison: what they are named, which weights they have, and what learning them cost."""

import hashlib
from pathlib import Path

from nmg.errors import UserError
from nmg.masking.registry import RULES
from nmg.meta_test import find_policy
from nmg.report.run_log import log_lines
from nmg.types import PHASES


def parse_policies(words: str) -> dict[str, Path]:
    """'runs/a,best=runs/b' → {'a': runs/a, 'best': runs/b}. Raises UserError for a name that is taken or empty."""
    policies: dict[str, Path] = {}
    for word in filter(None, (word.strip() for word in words.split(","))):
        name, equals, folder = word.partition("=")
        path = Path(folder if equals else word).expanduser()
        name = name.strip() if equals else path.resolve().name
        if not name or (equals and not folder.strip()):
            raise UserError(f"--policies {word}: write FOLDER or NAME=FOLDER")
        if name in RULES or name in policies:
            taken = "the name of a rule" if name in RULES else f"also the name of {policies[name]}"
            raise UserError(f"--policies {word}: '{name}' is {taken}; name it otherwise with NAME=FOLDER")
        policies[name] = path
    return policies


def policy_digest(folder: Path) -> str:
    """Of the policy's files. `folder` is a run's or a policy's, and holds a policy."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        digest.update((find_policy(folder) / name).read_bytes())
    return digest.hexdigest()[:16]


def meta_training_seconds(folder: Path) -> float | None:
    """Seconds of all episodes of the run that the policy comes from; None where no run is around it.

    `folder` is a run's or the one of the policy in it. A policy that was copied elsewhere has lost its run.
    """
    run = find_policy(folder).resolve().parent
    if not (run / "metrics.jsonl").is_file() or not (run / "run.json").is_file():
        return None
    return sum(float(line["seconds"][phase]) for line in log_lines(run / "metrics.jsonl") for phase in PHASES)
