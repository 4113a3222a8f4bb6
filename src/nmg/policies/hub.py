"""Downloads and uploads policies from and to the Hugging Face hub."""

import re
from pathlib import Path

from nmg.base.errors import UserError
from nmg.base.hub import first_line, is_only_local, upload

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
FILES = ("config.json", "model.safetensors", "README.md")
"""Names of the files in the repository of a policy."""


def is_hub_name(name: str) -> bool:
    """Return whether `name` has the form OWNER/NAME and does not begin with a dot, as a path may."""
    return _NAME.fullmatch(name) is not None and not name.startswith(".")


def download_policy(name: str, revision: str | None = None) -> Path:
    """Download a policy from the hub and return its folder in the local cache. Without network, use the cache only.

    Raises UserError if the repository does not exist or is not accessible, or if it is neither reachable nor cached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    only_local = is_only_local(name)
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(FILES), local_files_only=only_local)
        return Path(folder)
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{name}: there is no such folder, the hub cannot be reached, and its cache does not contain this policy"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{name}: there is no such folder, and the hub has no such policy: {first_line(error)}"
        ) from error


def upload_policy(folder: Path, name: str, *, token: str | None, private: bool) -> str:
    """Upload the files of a policy folder to the hub.

    Args:
        folder: Folder of the policy.
        name: `OWNER/NAME` of the repository, which is created if it does not exist.
        token: Access token. None uses the saved one.
        private: Whether a new repository is private.

    Returns:
        The URL of the repository.

    Raises:
        UserError: If the upload fails.
    """
    return upload(folder, name, FILES, "policy", token=token, private=private)
