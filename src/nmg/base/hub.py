"""Short queries to the Hugging Face hub. The libraries of the hub retry for a minute if it is unreachable."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from nmg.base.errors import UserError
from nmg.base.files import is_folder

SECONDS = 10.0
"""Timeout of a request to the hub, in seconds."""

Kind = Literal["model", "dataset"]


@cache
def is_reachable(name: str, kind: Kind) -> bool:
    """Return whether the hub responds. The result is also False if offline mode is set in the environment.

    The answer is cached for the lifetime of the process.

    Args:
        name: a repository, OWNER/NAME or NAME.
        kind: type of the repository, `model` or `dataset`.

    Returns:
        True if the hub responds. If False, the libraries may still have the repository in their caches.

    Raises:
        UserError: if the repository does not exist, or if this user has no access to it.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return False
    what = "model" if kind == "model" else "data set"
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=SECONDS)
    except GatedRepoError as error:
        advice = f"Request access on the page of the {what}, then log in with `hf auth login`."
        raise UserError(f"the hub restricts access to the {what} '{name}'. {advice}") from error
    except RepositoryNotFoundError as error:
        advice = f"Check the spelling. If the {what} is private, log in with `hf auth login`."
        raise UserError(f"the hub has no {what} '{name}'. {advice}") from error
    except HFValidationError as error:
        raise UserError(f"'{name}' is not a valid name of a {what} on the hub") from error
    except HfHubHTTPError as error:  # a mirror without this endpoint is still reachable
        return error.response.status_code < 500
    except Exception:  # the exceptions depend on the HTTP library in use
        return False
    return True


def is_only_local(name: str) -> bool:
    """Return whether a model can only be on this machine: `name` is a folder, or the hub does not respond.

    Raises UserError if there is no such folder and the hub has no such model.
    """
    if is_folder(name):
        return True
    try:
        return not is_reachable(name, "model")
    except UserError as error:
        raise UserError(f"there is no folder '{name}', and {error}") from error


def is_cached(name: str, file: str) -> bool:
    """Return whether the local hub cache contains `file` of the model `name`."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file)
    return isinstance(found, str) and Path(found).exists()


def upload(folder: Path, name: str, files: Sequence[str], what: str, *, token: str | None, private: bool) -> str:
    """Upload files of a folder to the hub.

    Args:
        folder: The folder.
        name: `OWNER/NAME` of the repository, which is created if it does not exist.
        files: Names or patterns of the files to upload; others stay here.
        what: What the files are, for messages.
        token: Access token. None uses the saved one.
        private: Whether a new repository is private.

    Returns:
        The URL of the repository.

    Raises:
        UserError: If the upload fails.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(files), commit_message=f"{what.capitalize()} of nmg"
        )
    except Exception as error:  # errors of the hub and of whichever HTTP library it uses
        if isinstance(error, ConnectionError | TimeoutError) or re.search(
            "Connect|Timeout|Offline", type(error).__name__
        ):
            raise UserError(f"{name}: the hub cannot be reached ({first_line(error)})") from error
        raise UserError(f"{name}: the hub refused the {what}: {first_line(error)}") from error
    return str(address)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or all lines joined if the first one ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines) if lines[0].endswith(":") else lines[0]
