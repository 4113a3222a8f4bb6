"""Copies the files of a sentence-transformers model, so that sentence-transformers loads the adapted encoder again.

The file `modules.json` of such a model lists its modules: first the encoder, then for example pooling and a dense
layer, each in a folder. The encoder is in the root of the model or in a folder such as `0_Transformer`.
"""

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from nmg.base.files import is_folder
from nmg.base.hub import is_only_local
from nmg.data.notices import warn_once

MODULES = "modules.json"
ROOT_FILES = ("config_sentence_transformers.json",)
"""Files in the root of the model."""
ENCODER_FILES = "sentence_*_config.json"
"""Files of sentence-transformers in the encoder's folder, such as sentence_bert_config.json."""
DOWNLOADED = (MODULES, *ROOT_FILES, ENCODER_FILES, "[0-9]_*/*")
"""Patterns of the files that are read from a model on the hub; folders of modules have names such as 1_Pooling."""


def copy_sentence_modules(name: str, folder: Path) -> None:
    """Copy the files of the modules around an encoder into the folder of the adapted encoder.

    The encoder is in the root of the copy, so the path of its module becomes empty. Does nothing if the model does not
    come from sentence-transformers. Warns if its list of modules cannot be used.

    Args:
        name: Hub name or folder of the model, or the folder of the encoder inside it.
        folder: Folder with the adapted encoder.

    Raises:
        OSError: A file cannot be copied.
    """
    root, inner = _root(name)
    if root is None:
        return
    modules = _modules(root)
    if modules is None or modules[0]["path"] != inner:
        warn_once(
            name,
            f"its {MODULES} does not list the encoder first and every other module in a folder, so the adapted "
            "folder loads in transformers but not in sentence-transformers",
        )
        return
    for module in modules[1:]:
        source, target = root / module["path"], folder / module["path"]
        if source.is_dir():  # modules without files, such as a normalisation, may have no folder
            shutil.copytree(source, target, dirs_exist_ok=True)
    for file in (*(root / one for one in ROOT_FILES), *(root / inner).glob(ENCODER_FILES)):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    modules[0]["path"] = ""
    (folder / MODULES).write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")


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


def _modules(root: Path) -> list[dict[str, Any]] | None:
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
