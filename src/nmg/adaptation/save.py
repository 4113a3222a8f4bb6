"""Saves an adapted model in a folder that transformers loads."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError

from nmg.adaptation.sentence_modules import copy_sentence_modules
from nmg.base.files import cannot_write
from nmg.base.outputs import PARTIAL
from nmg.training.lm import PretrainedLM

MODEL_CONFIG = "config.json"


def save_lm(lm: PretrainedLM, folder: Path, texts: Mapping[str, str] | None = None) -> None:
    """Save model and tokenizer in a folder that `transformers` loads (`pipeline("fill-mask", folder)`).

    A model of sentence-transformers keeps its other modules, so the folder loads there as well.

    The files are first written to a subfolder, because `folder` may be a mount point that cannot be renamed. The
    model's config.json is moved last, so an incomplete folder does not load.

    Args:
        lm: The model and its tokenizer.
        folder: The output folder, created if it is missing.
        texts: Names of further files → their content.

    Raises:
        UserError: The files cannot be written.
    """
    aside = folder / PARTIAL
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        lm.model.save_pretrained(aside)
        lm.tokenizer.save_pretrained(aside)
        copy_sentence_modules(lm.name, aside)
        for name, text in (texts or {}).items():
            (aside / name).write_text(text, encoding="utf-8")
        for path in sorted(aside.iterdir(), key=lambda path: path.name == MODEL_CONFIG):
            if path.is_dir():  # a folder does not replace another one
                shutil.rmtree(folder / path.name, ignore_errors=True)
            path.replace(folder / path.name)
        aside.rmdir()
    except (OSError, SafetensorError) as error:
        raise cannot_write(folder, error) from error


def is_saved(folder: Path) -> bool:
    """Return whether `save_lm` has written the complete folder."""
    return (folder / MODEL_CONFIG).is_file()
