"""Copies the files of a sentence-transformers model, so that sentence-transformers loads the adapted encoder again."""

import json
import shutil
from pathlib import Path

from nmg.data.notices import warn_once
from nmg.training.sentence_modules import ENCODER_FILES, MODULES, ROOT_FILES, sentence_modules


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
    found = sentence_modules(name)
    if found is None:
        return
    root, inner, modules = found
    if modules is None:
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
