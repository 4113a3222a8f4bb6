"""Policies on the Hugging Face hub."""

import re
from pathlib import Path

from nmg.errors import UserError
from nmg.hub import first_line, is_only_local

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
FILES = ("config.json", "model.safetensors", "README.md")
"""what a policy's repository holds"""


def is_hub_name(name: str) -> bool:
    """Whether `name` has the form OWNER/NAME and is no path that begins with a dot."""
    return _NAME.fullmatch(name) is not None and not name.startswith(".")


def download_policy(name: str, revision: str | None = None) -> Path:
    """The folder of a hub repository's policy in the hub's cache, read from there where there is no network.

    Raises UserError where there is no such repository, no access, or neither network nor cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    only_local = is_only_local(name)
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(FILES), local_files_only=only_local)
        return Path(folder)
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{name}: there is no such folder, and the policy cannot be read from the hub: no network, and nothing in "
            "its cache"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{name}: there is no such folder, and the hub has no such policy: {first_line(error)}"
        ) from error


def upload_policy(folder: Path, name: str, *, token: str | None, private: bool) -> str:
    """Put the folder's files into the hub repository `name`, which is made where it is missing; returns its address.

    Raises UserError where the hub refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(FILES), commit_message="Mask policy of nmg"
        )
    except Exception as error:  # the hub's own, and whatever the HTTP library of the day raises
        raise UserError(f"{name}: the hub does not take the policy: {first_line(error)}") from error
    return str(address)
