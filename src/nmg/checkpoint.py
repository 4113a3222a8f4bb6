"""Atomic checkpoints: a folder of safetensors and one JSON file, complete from the moment its name exists.

RUN/checkpoints/episode-00007/   the last one: everything a resumed run needs but the replay's states
RUN/checkpoints/kept-00050/      policy and LM of every n-th episode, kept for good
RUN/replay/episode-00003.safetensors   the states of one episode, written once, shared by both players' replays
RUN/policy/                      the learner's policy as a Hugging Face folder, as of the last checkpoint
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from nmg.errors import UserError
from nmg.files import write_aside, write_text

Tensors = Mapping[str, Tensor]


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


def save_tensors(path: Path, tensors: Tensors) -> None:
    """safetensors, written aside and renamed. Tensors that share storage are stored each for itself."""
    with write_aside(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, temporary)


def save_shard(run: Path, episode: int, tensors: Tensors) -> None:
    save_tensors(_shard_path(run, episode), tensors)


def load_shard(run: Path, episode: int) -> dict[str, Tensor]:
    path = _shard_path(run, episode)
    try:
        return load_file(path)  # type: ignore[no-any-return]
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: the states of the replay cannot be read ({error})") from error


def drop_shards_except(run: Path, episodes: set[int]) -> None:
    """Remove states that no transition refers to any more. Call it after the checkpoint that no longer needs them."""
    wanted = {_shard_path(run, episode) for episode in episodes}
    for path in (run / "replay").glob("episode-*.safetensors"):
        if path not in wanted:
            path.unlink()


def _shard_path(run: Path, episode: int) -> Path:
    return run / "replay" / f"episode-{episode:05d}.safetensors"


def publish(model: PreTrainedModel, folder: Path) -> None:
    """`save_pretrained` into `folder`, each file replaced in one step, so a reader never meets half a file."""
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(aside.iterdir()):
        file.replace(folder / file.name)
    aside.rmdir()


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors: '<parameter index>.<name>'."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, entry in state.items() for name, tensor in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
