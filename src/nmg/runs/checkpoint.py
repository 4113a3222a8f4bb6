"""Atomic checkpoints: a folder of safetensors and one JSON file, complete from the moment its name exists.

RUN/checkpoints/episode-00007/   the last one: everything a resumed run needs but the replay's states
RUN/checkpoints/kept-00050/      policy and LM of every n-th episode, kept for good
RUN/replay/episode-00003.safetensors   what a learner keeps for long, written once: states of one episode
RUN/policy/                      the learner's policy as a Hugging Face folder, as of the last checkpoint
"""

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nmg.errors import UserError
from nmg.files import save_tensors, write_text
from nmg.learners.base import Tensors


def save_checkpoint(run: Path, episode: int, files: Mapping[str, Tensors], facts: Mapping[str, Any]) -> None:
    """Write `files` (name → tensors) and `facts` as the checkpoint after `episode`, then drop the one before it."""
    folder = run / "checkpoints" / f"episode-{episode:05d}"
    _write_folder(folder, files, facts)
    for older in folder.parent.glob("episode-*"):
        if older != folder:
            shutil.rmtree(older)


def keep_checkpoint(run: Path, episode: int, files: Mapping[str, Tensors], facts: Mapping[str, Any]) -> None:
    """Write a numbered checkpoint that later ones do not replace."""
    _write_folder(run / "checkpoints" / f"kept-{episode:05d}", files, facts)


def load_checkpoint(run: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The last complete checkpoint's files and facts, on the CPU; None where the run has none yet."""
    folders = [f for f in sorted((run / "checkpoints").glob("episode-*")) if f.suffix != ".tmp"]
    if not folders:
        return None
    try:
        facts = json.loads((folders[-1] / "facts.json").read_text())
        return {file.stem: load_file(file) for file in folders[-1].glob("*.safetensors")}, facts
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folders[-1]}: the checkpoint cannot be read ({error})") from error


def _write_folder(folder: Path, files: Mapping[str, Tensors], facts: Mapping[str, Any]) -> None:
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, tensors in files.items():
        save_tensors(aside / f"{name}.safetensors", tensors)
    write_text(aside / "facts.json", json.dumps(facts, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def save_lasting(run: Path, name: str, tensors: Callable[[], Tensors]) -> None:
    """Write what never changes under its name, unless it is there."""
    path = _lasting_path(run, name)
    if not path.is_file():
        save_tensors(path, tensors())


def load_lasting(run: Path, name: str) -> Tensors:
    path = _lasting_path(run, name)
    try:
        return load_file(path)  # type: ignore[no-any-return]
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: the states of the replay cannot be read ({error})") from error


def lasting_names(run: Path) -> list[str]:
    return sorted(path.stem for path in (run / "replay").glob("[!.]*.safetensors"))


def drop_lasting_except(run: Path, wanted: Collection[str]) -> None:
    """Remove what is no longer referred to. Call it after the checkpoint that no longer needs it."""
    for name in lasting_names(run):
        if name not in wanted:
            _lasting_path(run, name).unlink()


def _lasting_path(run: Path, name: str) -> Path:
    return run / "replay" / f"{name}.safetensors"
