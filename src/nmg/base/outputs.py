"""Checks of output locations: writable, free of earlier results, and used by only one process."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nmg.base.distributed import is_main_process
from nmg.base.errors import UserError, bad_input
from nmg.base.files import cannot_write

LOCK = ".lock"
RECOMMENDED = "recommended.yaml"
"""Name of the settings that an audit recommends, or that a policy is to be used with."""
PARTIAL = ".partial"
"""Subfolder with a partially written model, left by an interruption (`adaptation.save`)."""


def check_output(out: Path, holds: str = "another run") -> None:
    """Raise UserError if the output folder contains files or cannot be a folder.

    Names that begin with a dot are ignored: they are locks or partially written files. `holds` says in the message what
    the folder already contains.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, not a folder")
    if out.is_dir() and not (out / PARTIAL).is_dir() and any(path.name[0] != "." for path in out.iterdir()):
        raise UserError(f"--out {out}: the folder already contains {holds}. Choose another folder or remove this one.")


def check_writable(folder: Path) -> None:
    """Raise UserError if no file can be written into `folder`, which may be missing. The disk is left unchanged."""
    made: list[Path] = []
    try:
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        _remove_empty(made)


def check_file(path: Path) -> None:
    """Raise UserError if the file cannot be written or if `path` is a folder."""
    if path.is_dir():
        raise bad_input(path, "cannot be written because it is a folder")
    check_writable(path.parent)


@contextmanager
def output_lock(out: Path) -> Iterator[None]:
    """Lock the folder `out` for this process until the block ends; the system releases the lock if the process dies.

    A missing folder is created, and removed again if nothing was written into it. In distributed training only the main
    process, which writes, holds the lock. Raises UserError if the folder is not writable or another process holds it.
    """
    if not is_main_process():
        yield
        return
    check_writable(out)
    made = [one for one in (out, *out.parents) if not one.exists()]
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{out}: another process is writing to this folder. Wait until it ends, or stop it.") from error
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    """Remove each folder that is empty. `folders` are sorted from the innermost to the outermost."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
