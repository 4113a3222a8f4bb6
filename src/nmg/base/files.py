"""File helpers: paths from users, atomic writes, digests and JSON."""

import errno
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmg.base.errors import UserError, bad_input

if TYPE_CHECKING:
    from torch import Tensor


def user_path(name: str | os.PathLike[str]) -> Path:
    """Expand `~` in a path that a user wrote. The file does not have to exist. Raises UserError for an invalid path."""
    try:
        path = Path(name).expanduser()
        path.lstat()
    except RuntimeError as error:
        raise UserError(f"{name}: this machine has no such user") from error
    except ValueError as error:
        raise UserError(f"{name}: is not a valid file name ({error})") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{name}: {error.strerror}") from error
    return path


def default_cache_dir(setting: str | None) -> Path:
    """Return the folder of tokenised and streamed corpora: the setting, `$NMG_CACHE` or ~/.cache/nmg, in this order."""
    return user_path(setting or os.environ.get("NMG_CACHE") or "~/.cache/nmg")


def last_part(name: str) -> str:
    """Return the last component of a path or of a model name on the hub."""
    return name.rstrip("/").rpartition("/")[2]


def is_folder(path: str | Path) -> bool:
    """Return whether the path is a folder. Returns False for invalid paths, for which `Path.is_dir` may raise."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def is_there(path: str | Path) -> bool:
    """Return whether the path exists. Returns False for invalid paths."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` if the block ends without an error.

    Missing parent folders are created. After an error `path` is unchanged and the temporary file is removed. The
    temporary path has the suffix of `path`, which some writers require. Raises UserError if the file cannot be written.
    """
    aside = path.with_name(f".{path.stem}.{secrets.token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        _flush(aside)
        aside.replace(path)
        if os.name == "posix":
            _flush(path.parent)  # makes the rename durable
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically. Raises UserError if the file cannot be written."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits. Raises OSError if the file cannot be read."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def content_digest(path: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a file, or of the names and bytes of all files in a folder.

    Bytecode caches (`__pycache__`) are ignored. Raises OSError if a file cannot be read.
    """
    if not path.is_dir():
        return file_digest(path)[:16]
    digest = hashlib.sha256()
    for file in sorted(one for one in path.rglob("*") if one.is_file() and one.parent.name != "__pycache__"):
        digest.update(f"{file.relative_to(path).as_posix()} {content_digest(file)}\n".encode())
    return digest.hexdigest()[:16]


def append_line(path: Path, line: str) -> None:
    """Append a line to a UTF-8 text file. Raises UserError if the file cannot be written."""
    append_text(path, line + "\n")


def append_text(path: Path, text: str) -> None:
    """Append text to a UTF-8 text file. Raises UserError if the file cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> UserError:
    """Return the UserError for a failed write, such as a full or read-only disk."""
    return bad_input(path, f"cannot be written: {getattr(error, 'strerror', None) or error}")


def as_json(value: Any, indent: int | None = None) -> str:
    """Return the value as JSON text. Non-finite numbers (NaN, ±infinity) become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _flush(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    """Write a safetensors file atomically. Tensors that share storage are stored as separate copies.

    Raises UserError if the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file  # slow to import

    with write_aside(path) as aside:
        try:
            save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, aside)
        except SafetensorError as error:
            raise cannot_write(path, error) from error
