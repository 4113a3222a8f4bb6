"""Digests of a folder's files, in a file SHA256SUMS beside them, as `sha256sum -c` reads it."""

import re
from collections.abc import Mapping
from pathlib import Path

from nmg.files import file_digest, write_text

SUMS = "SHA256SUMS"
LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[^/]+)")


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """`sums`: name of a file → its digest."""
    write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def read_sums(folder: Path) -> dict[str, str]:
    """Returns name of a file → its digest, of the lines that are whole; empty if there is no SHA256SUMS."""
    return {found["name"]: found["digest"] for found in map(LINE.fullmatch, _lines(folder)) if found}


def damaged_files(folder: Path) -> list[Path]:
    """Returns the files that are not what was written: cut, changed or gone.

    Without whole digests nothing says what was written, and SHA256SUMS is the file that is damaged.
    """
    lines = _lines(folder)
    if not lines or not all(map(LINE.fullmatch, lines)):
        return [folder / SUMS]
    return [folder / name for name, digest in read_sums(folder).items() if not _has_digest(folder / name, digest)]


def sound_files(folder: Path) -> list[Path]:
    """Returns the files that are what was written, by the digests that are left."""
    return [folder / name for name, digest in read_sums(folder).items() if _has_digest(folder / name, digest)]


def _lines(folder: Path) -> list[str]:
    try:
        return (folder / SUMS).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _has_digest(path: Path, digest: str) -> bool:
    try:
        return file_digest(path) == digest
    except (OSError, ValueError):  # a damaged line may hold a name that no file can have
        return False
