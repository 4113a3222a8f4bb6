"""Digests of a folder's files, in a file SHA256SUMS beside them, as `sha256sum -c` reads it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from nmg.files import file_digest, write_text

SUMS = "SHA256SUMS"
LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[^/]+)")


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """`sums`: name of a file → its digest."""
    write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def read_sums(folder: Path) -> dict[str, str]:
    """name of a file → its digest; empty for a folder without digests, as older versions wrote it."""
    return {found["name"]: found["digest"] for found in map(LINE.fullmatch, _lines(folder)) if found}


def damaged_files(folder: Path) -> list[Path]:
    """Files that are not what was written: cut, changed or gone. Without digests: those that do not load."""
    if not all(map(LINE.fullmatch, _lines(folder))):
        return [folder / SUMS]
    sums = read_sums(folder)
    if sums:
        return [folder / name for name, digest in sums.items() if not _has_digest(folder / name, digest)]
    return [path for path in sorted(folder.glob("[!.]*")) if not _loads(path)]


def _lines(folder: Path) -> list[str]:
    try:
        return (folder / SUMS).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _has_digest(path: Path, digest: str) -> bool:
    try:
        return file_digest(path) == digest
    except (OSError, ValueError):  # where the digests are damaged, a name may be none
        return False


def _loads(path: Path) -> bool:
    try:
        if path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, SafetensorError):
        return False
    return True
