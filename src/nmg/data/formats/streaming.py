"""Streams the texts of a data set of the hub into a file, record by record. This and later commands read the file.

A command reads its corpus several times: for the digest, the tokens, the held-out documents and the near duplicates. A
stream would be downloaded each time, and might not be the same.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from nmg.base.errors import UserError, bad_input, printable
from nmg.base.files import cannot_write, default_cache_dir, write_aside
from nmg.base.hub import first_line
from nmg.data.formats.hub import open_stream
from nmg.data.formats.reading import MAX_LINE, optional_text

FOLDER = "streams"
"""Folder of the files in the cache."""

_log = logging.getLogger(__name__)


def streamed_file(path: Path) -> Path:
    """Return the .jsonl file with the texts of a streamed data set, and write it if it is missing.

    The file is complete or missing, whatever interrupts the stream. If another process is writing it, wait for that
    process.

    Args:
        path: stream:OWNER/NAME@SPLIT; see `hub.STREAM`.

    Returns:
        A file in the cache, with one record per record of the data set: its text, or null if it is blank.

    Raises:
        UserError: if the data set cannot be streamed to its end, if a record has no field `text`, or if the file cannot
            be written.
    """
    file = default_cache_dir(None) / FOLDER / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.jsonl"
    if file.is_file():
        return file
    lock = file.with_suffix(".lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise cannot_write(file, error) from error
    with FileLock(lock):
        try:
            if not file.is_file():
                _write(path, file)
        finally:
            with suppress(OSError):  # some systems do not remove open files
                lock.unlink()
    return file


def _write(path: Path, file: Path) -> None:
    """Write the texts of the data set `path` to `file`."""
    rows = open_stream(path)
    _log.warning("%s", printable(f"{path}: its texts are streamed to {file}, which later commands read"))
    with write_aside(file) as aside, aside.open("w", encoding="utf-8", newline="\n") as target:
        for number, row in enumerate(_received(rows, path), start=1):
            text = optional_text(row, "text", path, line=number)
            line = json.dumps({"text": text}, ensure_ascii=False) + "\n"
            if len(line.encode()) > MAX_LINE:
                raise bad_input(path, f"is longer than {MAX_LINE // 2**20} MB", line=number, field="text")
            target.write(line)


def _received(rows: Iterable[Mapping[str, Any]], path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the records of a stream. Raises UserError if it breaks off or has no record."""
    n_received, received = 0, iter(rows)
    while True:
        try:
            row = next(received)
        except StopIteration:
            break
        except Exception as error:  # of the network, of archives or of tables: there is no common class
            problem = f"the stream broke off after {n_received} records: {first_line(error)}"
            raise UserError(f"{path}: {problem}. Nothing was kept. Run the command again.") from error
        n_received += 1
        yield row
    if not n_received:
        raise bad_input(path, "contains no records")
