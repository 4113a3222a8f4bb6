"""What one of two processes meets alone: `torchrun --nproc_per_node 2 fails_alone.py FOLDER`, each case in its turn.

Process N writes FOLDER/CASE-N.json: which cells it has, what failed, or the error that ended the command.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nmg.base import outputs
from nmg.base.errors import UserError
from nmg.comparison.run import Comparison
from nmg.config import Config
from nmg.jobs.compare import compare as run_comparison
from nmg.policies.sampling import PolicyMasking
from nmg.training.accumulation import Accumulation
from nmg.training.first_masks import FirstMasking
from nmg.trials.store import TrialStore

RANK = int(os.environ["RANK"])
FOLDER = Path(sys.argv[1])


def config(**changes: dict[str, Any]) -> Config:
    sections = json.loads((FOLDER / "sections.json").read_text())
    for section, fields in changes.items():
        sections[section] = sections.get(section, {}) | fields
    return Config.model_validate(sections)


def compare(settings: Config, out: Path, names: list[str], **options: Any) -> dict[str, Any]:
    try:
        results = run_comparison(settings, names, out, **options)
    except UserError as error:
        return {"error": str(error)}
    cells = {cell.spec.name: [dict(cell.scores), cell.adaptation.masked_tokens] for cell in results.cells}
    return {"failures": dict(results.failures), "cells": cells}


def on_call(function: Callable[..., Any], number: int, error: Exception, rank: int) -> Callable[..., Any]:
    """The function, but a call of it fails in one process."""
    calls = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and rank == RANK:
            raise error
        return function(*arguments, **named)

    return call


def full_disk(case: str) -> Any:
    """The first process cannot write its first trial."""
    true = TrialStore._write
    TrialStore._write = on_call(true, 1, UserError("No space left on device"), 0)  # type: ignore[method-assign]
    try:
        return compare(config(), FOLDER / case, ["random"], seeds=1, labelled=[2, 4])
    finally:
        TrialStore._write = true  # type: ignore[method-assign]


def out_of_memory(case: str) -> Any:
    """The second process runs out of memory in the first cell, with one row a pass: there is nothing to halve."""
    true_part, true_run = Accumulation._in_parts, Comparison.run
    error = torch.OutOfMemoryError("CUDA out of memory")

    def run(comparison: Comparison, on_cell: Any) -> Any:
        Accumulation._in_parts = on_call(true_part, 2, error, 1)  # type: ignore[method-assign]
        return true_run(comparison, on_cell)

    Comparison.run = run  # type: ignore[method-assign]
    try:
        return compare(config(runtime={"micro_batch_size": 1}), FOLDER / case, ["random", "idf"], seeds=1)
    finally:
        Accumulation._in_parts, Comparison.run = true_part, true_run  # type: ignore[method-assign]


def own_caches(case: str) -> Any:
    """Each process has a cache of its own; only the first one's holds the head, from a comparison before."""
    settings = config(
        model={"name": str(FOLDER / "headless"), "head_warmup_steps": 2, "head_tuning_steps": 2},
        runtime={"cache_dir": str(FOLDER / f"cache-{RANK}")},
    )
    first = compare(settings, FOLDER / case, ["random"], seeds=1)
    again = compare(settings, FOLDER / f"{case}-again", ["random"], seeds=1)
    return {"first": first, "again": again, "kept": [len(list((FOLDER / f"cache-{n}").glob("head-*"))) for n in (0, 1)]}


def own_rounding(case: str) -> Any:
    """The second process may not choose positions by its own forward passes."""
    chosen: list[Any] = []
    true_plan, true_first = PolicyMasking.plan, FirstMasking.plan

    def plan(masking: Any, blocks: Any, *arguments: Any) -> Any:
        assert RANK == 0, "the first process alone chooses"
        return true_plan(masking, blocks, *arguments)

    def remember(masking: Any, *arguments: Any) -> Any:
        plan = true_first(masking, *arguments)
        chosen.append(plan.positions.tolist())
        return plan

    PolicyMasking.plan = plan  # type: ignore[method-assign]
    FirstMasking.plan = remember  # type: ignore[method-assign]
    try:
        found = compare(config(), FOLDER / case, [str(FOLDER / "policy")], seeds=1)
    finally:
        PolicyMasking.plan, FirstMasking.plan = true_plan, true_first  # type: ignore[method-assign]
    (FOLDER / f"positions-{RANK}.json").write_text(json.dumps(chosen))
    return found


def own_folder(case: str) -> Any:
    """Machines without a shared disk: only the first one's folder has the cells of a call before."""
    compare(config(), FOLDER / case, ["random"], seeds=1)
    out = FOLDER / case if RANK == 0 else FOLDER / "elsewhere"
    return compare(config(), out, ["random", "idf"], seeds=1)


def other_data(case: str) -> Any:
    """The second machine has another file under the same name."""
    sections = json.loads((FOLDER / "sections.json").read_text())
    data = {"train": sections["data"]["train" if RANK == 0 else "test"], "test": sections["data"]["test"]}
    return compare(config(data=data), FOLDER / case, ["random"], seeds=1)


def taken_folder(case: str) -> Any:
    """The first process cannot have the folder."""
    true = outputs.check_writable
    outputs.check_writable = on_call(true, 1, UserError("cannot be written"), 0)
    try:
        return compare(config(), FOLDER / case, ["random"], seeds=1)
    finally:
        outputs.check_writable = true


CASES = (full_disk, out_of_memory, own_caches, own_rounding, own_folder, other_data, taken_folder)

if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in CASES:
        said = one(one.__name__)
        (FOLDER / f"{one.__name__}-{RANK}.json").write_text(json.dumps(said))
