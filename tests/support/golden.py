"""Runs whose every number is written down: what a change of the code's shape must not change.

Three jobs on the tiny inputs, fp32, one thread: a meta-training with each of two learners, a comparison and an audit.
`facts_of` reads their folders into one flat record, so only this file knows where a run keeps its numbers.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from nmg.auditing.run import audit
from nmg.base.trial import TrialResult
from nmg.base.types import CorruptedBlocks
from nmg.config import Config
from nmg.training import masks
from nmg.trials.store import TRIALS, read_trials
from support.command import Nmg
from support.runs import Inputs

Facts = dict[str, float | int | str | None]
"""Path of a fact, e.g. 'experiment/3/scores/plus/loss', and its value."""

CLOCK = {"seconds", "minutes"}
PLACES = {"provenance", "environment", "name", "part"}
"""Fields that name folders, digests of them or the machine."""
UNDETERMINED = {"policy.head.2.bias"}
"""Weights whose gradient is zero but for rounding, which Adam makes large: a bias that softmax takes out again."""


class CorruptionLog:
    """Digests of all corrupted batches of a process, whatever their order: masks, replacements and labels."""

    def __init__(self) -> None:
        self._digests: list[str] = []

    def recording(self, corrupt: Callable[..., CorruptedBlocks]) -> Callable[..., CorruptedBlocks]:
        def recorded(*args: Any, **options: Any) -> CorruptedBlocks:
            corrupted = corrupt(*args, **options)
            ids = torch.stack([corrupted.input_ids, corrupted.labels]).contiguous()
            self._digests.append(hashlib.sha256(ids.numpy().tobytes()).hexdigest())
            return corrupted

        return recorded

    def take(self) -> Facts:
        """The digest of all batches since the last call, and their number."""
        digests, self._digests = sorted(self._digests), []
        return {"batches": len(digests), "masks": hashlib.sha256("".join(digests).encode()).hexdigest()[:16]}


def play(inputs: Inputs, folder: Path, nmg: Nmg, patch: pytest.MonkeyPatch) -> Facts:
    """Run all jobs into `folder`; returns every number that they leave behind, seconds aside."""
    log = CorruptionLog()
    patch.setattr(masks, "corrupt", log.recording(masks.corrupt))
    facts: Facts = {}
    for name, words in _commands(inputs, folder).items():
        answer = nmg(*words, "--out", folder / name)
        assert answer.code == 0, answer.err
        facts |= _under(name, log.take() | facts_of(folder / name))
    sections = inputs.sections(meta={"continual": False}, reward={"metric": None})
    del sections["learner"], sections["policy"]
    # So few minutes that every size is the smallest: what an audit plays would depend on the clock else.
    audit(Config.model_validate(sections), folder / "audit", seeds=2, minutes=1e-6)
    return facts | _under("audit", log.take() | facts_of(folder / "audit"))


def _under(name: str, facts: Facts) -> Facts:
    return {f"{name}/{path}": value for path, value in facts.items()}


def _commands(inputs: Inputs, folder: Path) -> dict[str, list[str | Path]]:
    experiment = inputs.sections(meta={"continual": False, "episodes": 20})
    experiment |= {"learner": {"kind": "experiment", "budget": 24}, "policy": {"kind": "linear"}}
    compared = inputs.sections(adapt={"batch_size": 20}, finetune={"batch_size": 20})
    files = {"actor-critic": inputs.sections(meta={"episodes": 4}), "experiment": experiment}
    files |= {"comparison": compared}
    for name, sections in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")
    # The policy of so short an experiment points where rounding sends it; that of the actor-critic hardly moves.
    policies = ["--policies", f"learned={folder / 'actor-critic'}"]
    compare = ["compare", folder / "comparison.yaml", "--maskings", "none,random,idf", "--seeds", "2", *policies]
    return {
        "actor-critic": ["learn", folder / "actor-critic.yaml"],
        "experiment": ["learn", folder / "experiment.yaml"],
        "comparison": compare,
    }


def facts_of(out: Path) -> Facts:
    """The numbers in the folder of a job."""
    facts: Facts = {}
    for path in sorted(set(out.glob("*.jsonl")) - {out / TRIALS}):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        facts |= dict(_flat(path.stem, {str(number): line for number, line in enumerate(lines)}))
    for path in (out / "effects.json", out / "audit.json"):
        if path.is_file():
            facts |= dict(_flat(path.stem, json.loads(path.read_text(encoding="utf-8"))))
    if (out / "audit.json").is_file():
        facts |= _audited(read_trials(out / TRIALS).values())
    if (out / "results.json").is_file():
        for cell in json.loads((out / "results.json").read_text(encoding="utf-8"))["cells"]:
            facts |= dict(_flat(f"{cell['masking']}.seed-{cell['seed']}", cell))
    for path in sorted(out.glob("policy/*.safetensors")):
        for name, tensor in load_file(path).items():
            if name in UNDETERMINED:
                continue
            facts[f"policy/{name}"] = float(tensor.double().norm())
    return facts


def _audited(results: Iterable[TrialResult]) -> Facts:
    """The numbers of an audit's trials, each under what identifies its adaptation: trials may end in any order."""
    facts: Facts = {}
    for result in results:
        spec, condition = result.spec, result.spec.condition
        key = {"examples": condition.labelled, "learning_rate": spec.learning_rate, "masking": spec.masking}
        key |= {"seed": spec.seed, "steps": condition.adapt_steps}
        scores: dict[str, Any] = {"probe": dict(result.scores)}
        if spec.evaluation == "finetune":
            scores = {f"finetune/{spec.replicate}": dict(result.scores)}
        name = " ".join(str(key[part]) for part in ("seed", "masking", "steps", "learning_rate", "examples"))
        facts |= dict(_flat(f"trials/{name}", {"key": key, "lm_loss": result.adaptation.loss, **scores}))
    return facts


def _flat(path: str, value: Any) -> Iterator[tuple[str, float | int | str | None]]:
    if isinstance(value, dict):
        for name, one in value.items():
            if name not in CLOCK | PLACES:
                yield from _flat(f"{path}/{name}", one)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _flat(f"{path}/{number}", one)
    else:
        yield path, value
