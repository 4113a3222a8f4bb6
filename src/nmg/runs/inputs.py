"""What a run was made from: digests of its data files, model and tokenizer, so that it goes on with no other."""

from collections.abc import Mapping
from pathlib import Path

from nmg.data.cutting import tokenizer_digest
from nmg.errors import UserError, bad_input
from nmg.files import content_digest, user_path
from nmg.inner.lm import state_digest
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
        **{f"data.{name}": _digest(path) for name, path in files.items()},
        "model.name": state_digest(lm.model.state_dict(), without=lm.new_parameters),
        "tokenizer": tokenizer_digest(lm.tokenizer),
    }


def _digest(path: Path) -> str:
    try:
        return content_digest(path)
    except OSError as error:
        raise bad_input(path, f"cannot be read: {error.strerror}") from error


def data_files(data: DataSettings) -> dict[str, Path]:
    """Field → file or folder, of those that are given."""
    return {name: user_path(file) for name in FILES if (file := getattr(data, name)) is not None}


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
