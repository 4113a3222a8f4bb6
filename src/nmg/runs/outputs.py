"""Where a command writes: that it can, that nothing of value is there, and that no other process writes there too."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nmg.errors import UserError, bad_input
from nmg.files import cannot_write
from nmg.together import is_first_process

LOCK = ".lock"
PARTIAL = ".partial"
"""a folder in which a kill left a model half-written (`adaptation.save_lm`)"""


def check_output(out: Path, holds: str = "another run") -> None:
    """Raises UserError where the output folder holds something or cannot be one.

    Names that begin with a dot do not count: a lock, or what a kill left half-written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, not a folder")
    if out.is_dir() and not (out / PARTIAL).is_dir() and any(path.name[0] != "." for path in out.iterdir()):
        raise UserError(f"--out {out}: the folder already holds {holds}; choose another, or remove it first")


def check_writable(folder: Path) -> None:
    """Raises UserError where no file can be written into `folder`, a missing one included. Leaves all as it was."""
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
    """Raises UserError where the file cannot be written, or takes the place of a folder."""
    if path.is_dir():
        raise bad_input(path, "cannot be written: is a folder")
    check_writable(path.parent)


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Hold the folder `out` for this process; the system lets go of it when the process ends, in whatever way.

    The folder is made where it is missing, and goes again where nothing was written into it. Raises UserError where
    it cannot be written to, or another process holds it. Of processes that train together the first one, which writes,
    holds it for all.
    """
    if not is_first_process():
        yield
        return
    check_writable(out)
    made = [one for one in (out, *out.parents) if not one.exists()]
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{out}: another process writes into this folder; wait until it has ended, or end it"
        ) from error
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    """Those of `folders`, the innermost first, that hold nothing."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
