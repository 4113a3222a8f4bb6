"""Saves and loads the checkpoints of an adaptation.

DIR/checkpoints/step-00000120/   the last one: everything that a resumed run needs
DIR/checkpoints/step-00000060/   the previous one, used if the last one is damaged
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from nmg.base.checkpoint_folder import read_facts, write_checkpoint
from nmg.base.digests import damaged_files
from nmg.base.errors import UserError
from nmg.base.state import State

HELD = 2
"""Number of checkpoints to hold."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint, and the names of damaged files."""

    step: int
    """Number of steps taken."""
    parts: Mapping[str, State]
    """Name of each part of the training → its state, on the CPU."""
    facts: Mapping[str, Any]
    """Further values, as stored in JSON."""
    damaged: tuple[Path, ...]
    """Damaged files of later checkpoints, which were deleted."""


class Checkpoints:
    """The checkpoints in the folder of a run."""

    def __init__(self, run: Path) -> None:
        self._folder = run / "checkpoints"

    def save(self, step: int, parts: Mapping[str, State], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, then delete all but the last `HELD`.

        Args:
            step: Number of steps taken.
            parts: Name → state of each part of the training.
            facts: Further values, stored as JSON.

        Raises:
            UserError: The files cannot be written; earlier checkpoints are left unchanged.
        """
        tensors = {name: state.tensors for name, state in parts.items() if state.tensors}
        content = {**facts, "step": step, "parts": {name: dict(state.facts) for name, state in parts.items()}}
        write_checkpoint(self._folder / f"step-{step:08d}", tensors, content)
        for older in self._newest_first()[HELD:]:
            shutil.rmtree(older)

    def load(self) -> Checkpoint | None:
        """Load the newest intact checkpoint and delete newer ones, or return None if there is no checkpoint yet.

        Raises UserError if every checkpoint is damaged.
        """
        damaged: list[Path] = []
        for folder in self._newest_first():
            found = damaged_files(folder)
            if not found:
                return _read(folder, damaged)
            damaged += found
        if damaged:
            names = ", ".join(map(str, damaged))
            raise UserError(f"{self._folder}: every checkpoint is damaged, so start a new run; damaged: {names}")
        return None

    def clear(self) -> None:
        """Delete all checkpoints."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        found = (folder for folder in self._folder.glob("step-*") if folder.suffix != ".tmp")
        return sorted(found, reverse=True)


def _read(folder: Path, damaged: list[Path]) -> Checkpoint:
    """Read an intact checkpoint and delete newer ones; `damaged` are the damaged files of the newer ones."""
    for newer in {path.parent for path in damaged}:
        shutil.rmtree(newer, ignore_errors=True)
    facts = read_facts(folder)
    tensors = {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
    parts = {name: State(tensors.get(name, {}), of_part) for name, of_part in facts["parts"].items()}
    return Checkpoint(int(facts["step"]), parts, facts, tuple(damaged))
