"""What a run was made from: digests of its data files, model and tokenizer, so that it goes on with no other."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from nmg.config import Config
from nmg.data.cutting import tokenizer_digest
from nmg.data.formats.tables import source_digest
from nmg.errors import UserError
from nmg.files import user_path
from nmg.inner.lm import ModelState, state_digest
from nmg.reporter import Reporter
from nmg.settings import DataSettings
from nmg.workbench import Workbench

FILES = ("train", "validation", "test", "corpus")


def input_digests(bench: Workbench) -> dict[str, str]:
    """Input (a setting that names it, or the tokenizer) → 16 hex digits of its content.

    Of a model whose head is new and not yet warmed up: what the checkpoint has. Raises UserError for a file that cannot
    be read.
    """
    lm, files = bench.lm, data_files(bench.config.data)
    return {
        **{f"data.{name}": source_digest(path) for name, path in files.items()},
        "model.name": state_digest(lm.model.state_dict(), without=lm.new_parameters),
        "tokenizer": tokenizer_digest(lm.tokenizer),
    }


def data_files(data: DataSettings) -> dict[str, Path]:
    """Field → file, folder or data set of the hub, of those that are given."""
    return {name: user_path(file) for name in FILES if (file := getattr(data, name)) is not None}


def origin(config: Config, fields: Sequence[str], corpus_digest: str, pretrained: ModelState) -> dict[str, str]:
    """Digests of all that gives a cell or a play: its settings, its data (these fields and the corpus), its model."""
    files = data_files(config.data)
    digests = [corpus_digest, *(source_digest(files[name]) for name in fields if name in files)]
    data = hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
    return {"settings": config.digest, "data": data, "model": state_digest(pretrained)}


def check_origin(out: Path, what: str, then: Mapping[str, str], now: Mapping[str, str], masking: str = "") -> None:
    """Raises UserError where `what`, which lies in the folder `out`, has another origin than what is made now."""
    for name, digest in now.items():
        if then.get(name) != digest:
            other = f"another policy '{masking}'" if name == "masking" else f"other {name}"
            other += ", or from an older nmg" if name == "settings" else ""
            raise UserError(f"--out {out}: {what} comes from {other}; choose another folder")


def check_unchanged(run: Path, then: Mapping[str, str] | None, bench: Workbench, reporter: Reporter) -> None:
    """Raises UserError, with their names, where inputs are not those that the run began with.

    `then`: the run's `input_digests`; None where an older nmg began it, which kept none: that is said.
    """
    if then is None:
        reporter.notify(
            f"{run}: this run was begun by an older nmg, which kept no digests of data and model: nothing here says "
            "whether they are still the same. Texts that are twins now stay on one side of its split"
        )
        return
    now, files = input_digests(bench), data_files(bench.config.data)
    changed = [name for name in now if now[name] != then.get(name)]
    if changed:
        described = ", ".join(_described(name, bench, files) for name in changed)
        raise UserError(
            f"--resume {run}: {described} {'has' if len(changed) == 1 else 'have'} changed since the run began, so it "
            "would not end as an uninterrupted one; bring back what it began with, or start a new run"
        )


def _described(name: str, bench: Workbench, files: Mapping[str, Path]) -> str:
    """An input with what it is called."""
    if name == "tokenizer":
        return f"the tokenizer of {bench.lm.name}"
    return f"{name} ({files[name.removeprefix('data.')] if name.startswith('data.') else bench.lm.name})"
