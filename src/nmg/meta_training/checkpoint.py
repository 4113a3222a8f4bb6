"""Saves and loads the checkpoints of a meta-training run.

A checkpoint is a folder of safetensors files and one JSON file. It is written under a temporary name and then renamed,
so a folder with the final name is complete.

RUN/checkpoints/episode-00007/   the last one: everything a resumed run needs, except for states of the replay
RUN/checkpoints/episode-00006/   the previous one, used if the last one is damaged
RUN/checkpoints/kept-00050/      policy and LM of every n-th episode, never deleted
RUN/replay/episode-00003.safetensors   states of one episode, written once and kept while the learner needs them
RUN/policy/                      the learner's policy as a Hugging Face folder, as of the last checkpoint

All files except the policy have digests (`nmg.base.digests`).
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from nmg.base.checkpoint_folder import read_facts, write_checkpoint
from nmg.base.digests import damaged_files, read_sums, sound_files, write_sums
from nmg.base.errors import UserError
from nmg.base.files import file_digest, save_tensors
from nmg.learners.base import Tensors

HELD = 2
"""Number of most recent checkpoints to hold, in addition to the `kept-…` ones."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint, and the names of damaged files."""

    files: Mapping[str, Tensors]
    """Name of a file → its tensors, on the CPU."""
    facts: Mapping[str, Any]
    """The content of facts.json."""
    immutable: Mapping[str, Callable[[], Tensors]]
    """Name → function that loads tensors of the learner that never change; without those in `lost`."""
    lost: tuple[str, ...]
    """Names of immutable tensors whose files are damaged."""
    damaged: tuple[Path, ...]
    """Damaged files of this and later checkpoints."""


def save_checkpoint(
    run: Path,
    episode: int,
    files: Mapping[str, Tensors],
    facts: Mapping[str, Any],
    immutable: Mapping[str, Callable[[], Tensors]],
) -> None:
    """Write the checkpoint after `episode`, then delete older checkpoints and replay files that no checkpoint needs.

    Only this checkpoint and the one before it are held.

    Args:
        run: The folder of the run.
        episode: The number of finished episodes.
        files: Name → tensors, written with this checkpoint.
        facts: Further content, stored as JSON.
        immutable: Name → function that returns tensors which never change; each is written only once.

    Raises:
        UserError: The files cannot be written.
    """
    for name, tensors in immutable.items():
        _save_lasting(run, name, tensors)
    write_checkpoint(run / "checkpoints" / f"episode-{episode:05d}", files, {**facts, "immutable": sorted(immutable)})
    for older in _folders(run)[HELD:]:
        shutil.rmtree(older)
    _drop_unneeded(run)


def keep_checkpoint(run: Path, episode: int, files: Mapping[str, Tensors], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint that is never deleted (`kept-…`).

    Args:
        run: The folder of the run.
        episode: The number of finished episodes.
        files: Name → tensors.
        facts: Further content, stored as JSON.

    Raises:
        UserError: The files cannot be written.
    """
    write_checkpoint(run / "checkpoints" / f"kept-{episode:05d}", files, facts)


def load_checkpoint(run: Path) -> Checkpoint | None:
    """Load the newest intact checkpoint, or return None if the run has no checkpoint yet.

    A checkpoint is intact if neither its files nor the replay files that it needs are damaged. If only replay files are
    damaged but every checkpoint needs some of them, the newest checkpoint with intact files is loaded without the
    damaged replay files. Checkpoints newer than the loaded one are deleted, because their episodes will run again.
    Raises UserError if every checkpoint has damaged files.
    """
    folders = _folders(run)
    if not folders:
        _drop_unneeded(run)
        return None
    damaged = {folder: damaged_files(folder) for folder in folders}
    there = {path.stem for path in sound_files(run / "replay")}
    sound = [folder for folder in folders if not damaged[folder]]
    whole = [folder for folder in sound if _needed(run, folder) <= there]
    if not sound:
        names = ", ".join(str(path) for folder in folders for path in damaged[folder])
        raise UserError(f"{run}: every checkpoint has damaged files ({names}): start a new run")
    chosen = (whole or sound)[0]
    needed, newer = _needed(run, chosen), folders[: folders.index(chosen)]
    missed = needed.union(*(_needed(run, folder) for folder in newer)) - there
    named = [path for folder in newer for path in damaged[folder]]
    named += [_lasting_path(run, name) for name in sorted(missed)]
    for folder in newer:
        shutil.rmtree(folder)
    _drop_unneeded(run)
    return Checkpoint(
        {path.stem: load_file(path) for path in chosen.glob("*.safetensors")},
        read_facts(chosen),
        {name: partial(load_file, _lasting_path(run, name)) for name in sorted(needed & there)},
        tuple(sorted(needed - there)),
        tuple(named),
    )


def _folders(run: Path) -> list[Path]:
    """Return the folders of the most recent checkpoints, the newest first."""
    found = (run / "checkpoints").glob("episode-*")
    return sorted((folder for folder in found if folder.suffix != ".tmp"), reverse=True)


def _needed(run: Path, folder: Path) -> set[str]:
    """Return the names of the replay files that a checkpoint needs; all existing names if it cannot be read."""
    names = read_facts(folder).get("immutable")
    return {path.stem for path in _lasting(run)} if names is None else set(names)


def _save_lasting(run: Path, name: str, tensors: Callable[[], Tensors]) -> None:
    """Write tensors that never change, unless their file exists."""
    path = _lasting_path(run, name)
    sums = read_sums(path.parent)
    if path.name not in sums or not path.is_file():
        save_tensors(path, tensors())
        write_sums(path.parent, {**sums, path.name: file_digest(path)})


def _drop_unneeded(run: Path) -> None:
    """Delete replay files that no checkpoint needs."""
    wanted: set[str] = set().union(*(_needed(run, folder) for folder in _folders(run)))
    dropped = {path.name for path in _lasting(run) if path.stem not in wanted}
    if dropped:  # digests first: an interruption may leave a file without a digest, but no digest without a file
        write_sums(run / "replay", {name: of for name, of in read_sums(run / "replay").items() if name not in dropped})
    for name in dropped:
        (run / "replay" / name).unlink()


def _lasting(run: Path) -> list[Path]:
    return sorted((run / "replay").glob("[!.]*.safetensors"))


def _lasting_path(run: Path, name: str) -> Path:
    return run / "replay" / f"{name}.safetensors"
