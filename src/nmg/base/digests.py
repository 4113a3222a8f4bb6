"""Writes and checks the digests of the files in a folder, in its file SHA256SUMS (the format of `sha256sum -c`)."""

import re
from collections.abc import Mapping
from pathlib import Path

from nmg.base.files import file_digest, write_text

SUMS = "SHA256SUMS"
LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[^/]+)")


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write SHA256SUMS. `sums`: file name → digest."""
    write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def read_sums(folder: Path) -> dict[str, str]:
    """Read the valid lines of SHA256SUMS: file name → digest. The result is empty if the file does not exist."""
    return {found["name"]: found["digest"] for found in map(LINE.fullmatch, _lines(folder)) if found}


def damaged_files(folder: Path) -> list[Path]:
    """Return the files that differ from what was written: truncated, changed or missing.

    If SHA256SUMS itself is missing, empty or invalid, it is the only file returned.
    """
    lines = _lines(folder)
    if not lines or not all(map(LINE.fullmatch, lines)):
        return [folder / SUMS]
    return [folder / name for name, digest in read_sums(folder).items() if not _has_digest(folder / name, digest)]


def sound_files(folder: Path) -> list[Path]:
    """Return the files whose content matches a valid line of SHA256SUMS."""
    return [folder / name for name, digest in read_sums(folder).items() if _has_digest(folder / name, digest)]


def _lines(folder: Path) -> list[str]:
    try:
        return (folder / SUMS).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _has_digest(path: Path, digest: str) -> bool:
    try:
        return file_digest(path) == digest
    except (OSError, ValueError):  # a damaged line may contain an invalid file name
        return False
