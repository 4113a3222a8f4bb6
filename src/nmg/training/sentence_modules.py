"""Finds the modules of a sentence-transformers model.

The file `modules.json` of such a model lists its modules: first the encoder, then for example pooling and a dense
layer, each in a folder. The encoder is in the root of the model or in a folder such as `0_Transformer`.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from nmg.base.files import is_folder
from nmg.base.hub import is_only_local

MODULES = "modules.json"
ROOT_FILES = ("config_sentence_transformers.json",)
"""Files in the root of the model."""
ENCODER_FILES = "sentence_*_config.json"
"""Files of sentence-transformers in the encoder's folder, such as sentence_bert_config.json."""
DOWNLOADED = (MODULES, *ROOT_FILES, ENCODER_FILES, "[0-9]_*/*")
"""Patterns of the files that are read from a model on the hub; folders of modules have names such as 1_Pooling."""


class SentenceModules(NamedTuple):
    """The modules of a sentence-transformers model."""

    root: Path
    """Folder with `MODULES`."""
    encoder: str
    """Path of the encoder inside `root`; empty for `root` itself."""
    entries: list[dict[str, Any]] | None
    """The entries of `MODULES`; None unless the encoder is the first and every other module is in a folder."""


def sentence_modules(name: str) -> SentenceModules | None:
    """Return the modules around an encoder; None if it does not come from sentence-transformers.

    `name` is the hub name or folder of the model, or the folder of the encoder inside it.
    """
    root, encoder = _root(name)
    if root is None:
        return None
    entries = _entries(root)
    if entries is not None and entries[0]["path"] != encoder:
        entries = None
    return SentenceModules(root, encoder, entries)


def _root(name: str) -> tuple[Path | None, str]:
    """Return the folder that contains `MODULES`, or None, and the path of the encoder inside it ("" for its root)."""
    if not is_folder(name):
        return _downloaded(name), ""
    path = Path(name).resolve()
    if (path / MODULES).is_file():
        return path, ""
    return (path.parent, path.name) if (path.parent / MODULES).is_file() else (None, "")


def _downloaded(name: str) -> Path | None:
    """Return the folder of the hub's cache with the files of the model's modules; None if the model has none."""
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(name, allow_patterns=list(DOWNLOADED), local_files_only=is_only_local(name)))
    except Exception:  # the exceptions depend on the HTTP library; a finished adaptation must not fail here
        return None
    return found if (found / MODULES).is_file() else None


def _entries(root: Path) -> list[dict[str, Any]] | None:
    """Return the entries of `MODULES`, or None if a path in them is invalid.

    A path must be inside the folder of the model, because the file comes from other people. Only the path of the first
    module may be empty.
    """
    try:
        modules = json.loads((root / MODULES).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(modules, list) or not modules:
        return None
    for number, module in enumerate(modules):
        path = module.get("path") if isinstance(module, dict) else None
        if not isinstance(path, str) or (number and not path) or "\\" in path or "\0" in path:
            return None
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or (number and not parts):
            return None
    return modules
