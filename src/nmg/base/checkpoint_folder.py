"""Writes and reads checkpoints.

A checkpoint is a folder with safetensors files, `facts.json` and SHA256SUMS. It is complete if its folder exists,
because the folder gets its name last.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmg.base.digests import write_sums
from nmg.base.files import cannot_write, file_digest, save_tensors, write_text

if TYPE_CHECKING:
    from torch import Tensor

FACTS = "facts.json"


def write_checkpoint(folder: Path, files: "Mapping[str, Mapping[str, Tensor]]", facts: Mapping[str, Any]) -> None:
    """Write a checkpoint to a temporary folder, then rename it to `folder`. An existing `folder` is replaced.

    Args:
        folder: The folder of the checkpoint.
        files: File name without extension → (tensor name → tensor).
        facts: Further values, stored as JSON. Numbers must be finite.

    Raises:
        UserError: If the files cannot be written.
        ValueError: If `facts` contains NaN or an infinite number.
    """
    aside = folder.with_name(folder.name + ".tmp")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, tensors in files.items():
            save_tensors(aside / f"{name}.safetensors", tensors)
        write_text(aside / FACTS, json.dumps(facts, indent=1, allow_nan=False))
        write_sums(aside, {path.name: file_digest(path) for path in sorted(aside.iterdir())})
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the JSON content of a checkpoint, or an empty dictionary if it cannot be read."""
    try:
        return dict(json.loads((folder / FACTS).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
