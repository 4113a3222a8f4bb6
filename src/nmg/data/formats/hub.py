"""Loads data sets of the Hugging Face hub by name, with the library `datasets` or from its cache."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmg.base.errors import UserError
from nmg.base.hub import first_line, is_reachable

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "hub:"
"""Prefix of data set names: hub:OWNER/NAME@SPLIT or hub:OWNER/NAME:CONFIGURATION@SPLIT. The default split is
`train`."""


def open_hub(path: Path) -> "Dataset":
    """Return the memory-mapped rows of a data set.

    Raises UserError if the data set, configuration or split does not exist. Raises UserError as well if the hub is
    unreachable and the data set is not in the cache of `datasets`.
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
        problem = f"cannot be reached, and is not in the cache of `datasets` ({first_line(error)})"
        raise UserError(f"{path}: {problem}. Check the network connection.") from error
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise UserError(f"{path}: cannot be loaded from the hub: {first_line(error)}") from error


def _is_online(path: Path, repository: str) -> bool:
    """Return whether the hub responds. Raises UserError if it has no such data set."""
    try:
        return is_reachable(repository, "dataset")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


@contextmanager
def _offline() -> Iterator[None]:
    """Make `datasets` use only its cache inside the block; otherwise it retries the hub for about a minute."""
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
