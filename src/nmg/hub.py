"""What the Hugging Face hub has, asked once and within seconds: its libraries try for a minute before they give up."""

from functools import cache
from pathlib import Path
from typing import Literal

from nmg.errors import UserError
from nmg.files import is_folder

SECONDS = 10.0
"""that the hub has to answer"""

Kind = Literal["model", "dataset"]


@cache
def is_reachable(name: str, kind: Kind) -> bool:
    """Whether the hub answers; False if it does not, or if the environment says to work offline.

    Args:
        name: a repository, OWNER/NAME or NAME.
        kind: what it holds.

    Returns:
        True if the hub has the repository. If it is not reachable, the libraries may still have it in their caches.

    Raises:
        UserError: if the hub answers that it has no such repository, or none for this user.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return False
    what = "model" if kind == "model" else "data set"
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=SECONDS)
    except GatedRepoError as error:
        raise UserError(f"'{name}': the hub gives this {what} only to users who ask for it there") from error
    except RepositoryNotFoundError as error:
        advice = "check the spelling; for a private one log in with `hf auth login`"
        raise UserError(f"'{name}': the hub has no such {what}; {advice}") from error
    except HFValidationError as error:
        raise UserError(f"'{name}': is no name that a {what} of the hub can have") from error
    except HfHubHTTPError as error:  # a mirror that does not know the question is there all the same
        return error.response.status_code < 500
    except Exception:  # whatever the HTTP library of the day raises
        return False
    return True


def is_only_local(name: str) -> bool:
    """Whether a model is to be looked for on this machine alone: it is a folder, or the hub does not answer.

    Raises UserError if there is no such folder and the hub has no such model.
    """
    if is_folder(name):
        return True
    try:
        return not is_reachable(name, "model")
    except UserError as error:
        raise UserError(f"there is no folder {error}") from error


def is_cached(name: str, file: str) -> bool:
    """Whether the hub's cache holds the file of a model."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file)
    return isinstance(found, str) and Path(found).exists()


def first_line(error: Exception) -> str:
    """What an error says, in one line: its first one, or all of it if that only announces a list."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines) if lines[0].endswith(":") else lines[0]
