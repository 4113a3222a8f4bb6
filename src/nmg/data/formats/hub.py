"""Data sets of the Hugging Face hub, by name, through the library `datasets`; from its cache where they are in it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmg.errors import UserError
from nmg.hub import first_line, is_reachable

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "hub:"
"""What a name begins with: hub:OWNER/NAME@SPLIT or hub:OWNER/NAME:CONFIGURATION@SPLIT; the split is `train` if none
is named."""


def open_hub(path: Path) -> "Dataset":
    """The rows of a data set, mapped into memory.

    Raises UserError for a data set, configuration or split that there is not, and without network, unless `datasets`
    has it in its cache.
    """
    name, _, split = str(path).removeprefix(HUB).partition("@")
    repository, _, configuration = name.partition(":")
    from datasets import DownloadConfig, load_dataset
    from datasets.exceptions import DatasetsError
    from datasets.utils import disable_progress_bars

    disable_progress_bars()
    is_online = _is_online(path, repository)
    try:
        with nullcontext() if is_online else _offline():
            return load_dataset(
                repository,
                configuration or None,
                split=split or "train",
                download_config=DownloadConfig(max_retries=1),
            )
    except ConnectionError as error:
        problem = "cannot be reached, and is not in the cache of `datasets`; is there a network?"
        raise UserError(f"{path}: {problem} ({first_line(error)})") from error
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise UserError(f"{path}: cannot be loaded from the hub: {first_line(error)}") from error


def _is_online(path: Path, repository: str) -> bool:
    """Whether the hub answers. Raises UserError if it has no such data set."""
    try:
        return is_reachable(repository, "dataset")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


@contextmanager
def _offline() -> Iterator[None]:
    """`datasets` looks into its cache alone, and does not try to reach the hub for a minute."""
    from datasets import config
    from huggingface_hub import constants

    switches: list[tuple[Any, bool]] = [(module, module.HF_HUB_OFFLINE) for module in (config, constants)]
    try:
        for module, _ in switches:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, was_offline in switches:
            module.HF_HUB_OFFLINE = was_offline
