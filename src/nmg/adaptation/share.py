"""Uploads an adapted model with its card to the Hugging Face hub."""

from pathlib import Path

from nmg.adaptation.folder import AdaptationFolder
from nmg.adaptation.save import is_saved
from nmg.base.errors import UserError
from nmg.base.hub import upload

FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "README.md"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model"),
)
"""Files to upload: model, tokenizer and card. Other files of an adaptation contain paths of this machine."""


def is_adaptation(folder: Path) -> bool:
    """Return whether the folder was written by `nmg adapt`, finished or not."""
    return AdaptationFolder(folder).is_begun or (is_saved(folder) and (folder / "nmg.json").is_file())


def push_adapted(folder: Path, name: str, *, token: str | None = None, private: bool = False) -> str:
    """Upload an adapted model to the hub.

    Args:
        folder: Folder of a finished adaptation.
        name: `OWNER/NAME` of the repository, which is created if it does not exist.
        token: Access token; None uses the saved one.
        private: Whether a new repository is private.

    Returns:
        The URL of the repository.

    Raises:
        UserError: The adaptation is not finished, or the upload fails.
    """
    if not is_saved(folder):
        raise UserError(f"{folder}: this adaptation is not finished. Continue it with nmg adapt --resume {folder}")
    return upload(folder, name, FILES, "adapted model", token=token, private=private)
