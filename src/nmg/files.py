"""Files that are whole or not there."""

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

from nmg.errors import UserError, bad_input

if TYPE_CHECKING:
    from torch import Tensor


def user_path(name: str | Path) -> Path:
    """A path as a user writes it, `~` included; there need be nothing. Raises UserError for what cannot be a path."""
    try:
        path = Path(name).expanduser()
        path.lstat()
    except RuntimeError as error:
        raise UserError(f"{name}: there is no such user") from error
    except ValueError as error:
        raise UserError(f"{name}: cannot be the name of a file ({error})") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{name}: {error.strerror}") from error
    return path


def last_part(name: str) -> str:
    """Returns the last part of the name of a folder, a file or a model of the hub."""
    return name.rstrip("/").rpartition("/")[2]


def is_folder(path: str | Path) -> bool:
    """False also for what cannot be a path, for which `Path.is_dir` may raise."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def is_there(path: str | Path) -> bool:
    """Whether there is a file or folder; False also for what cannot be a path."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a free path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    The missing folders of `path` are made. After an error `path` is as it was and nothing is left beside it. The path
    yielded keeps the ending of `path`, which some writers insist on. Raises UserError where the disk does not take it.
    """
    aside = path.with_name(f".{path.stem}.{secrets.token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        _flush(aside)
        aside.replace(path)
        if os.name == "posix":
            _flush(path.parent)  # the new name itself
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file that is whole or not there."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits. Raises OSError where it cannot be read."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def content_digest(path: Path) -> str:
    """16 hex digits of a file's bytes, or of the names and bytes of all files in a folder. Raises OSError.

    What Python compiles while it runs a folder's code is no content of the folder.
    """
    if not path.is_dir():
        return file_digest(path)[:16]
    digest = hashlib.sha256()
    for file in sorted(one for one in path.rglob("*") if one.is_file() and one.parent.name != "__pycache__"):
        digest.update(f"{file.relative_to(path).as_posix()} {content_digest(file)}\n".encode())
    return digest.hexdigest()[:16]


def append_line(path: Path, line: str) -> None:
    """Add a line to a UTF-8 text file. Raises UserError where the disk does not take it."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> UserError:
    """What to say of an error of the disk: it is full, read-only, gone."""
    return bad_input(path, f"cannot be written: {getattr(error, 'strerror', None) or error}")


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON text. A number that is none (NaN, infinite) becomes null, for JSON has no such numbers."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _flush(path: Path) -> None:
    """Wait until the file (or folder) is on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    """safetensors, whole or not there. Tensors that share storage are stored each for itself."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file  # takes a moment to import

    with write_aside(path) as aside:
        try:
            save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, aside)
        except SafetensorError as error:
            raise cannot_write(path, error) from error
