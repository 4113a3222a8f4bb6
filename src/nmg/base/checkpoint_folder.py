"""One checkpoint: a folder of safetensors and one JSON file with their digests, complete as soon as its name exists."""

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
    """Write a checkpoint next to its folder, then rename it. A folder of that name is replaced.

    Args:
        folder: The folder of the checkpoint.
        files: Name of a file, without its ending → tensors.
        facts: Further content, stored as JSON.

    Raises:
        UserError: The files cannot be written.
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
    """The JSON content of a checkpoint; empty if it cannot be read."""
    try:
        return dict(json.loads((folder / FACTS).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
