"""Data sets of the Hugging Face hub, by name, through the library `datasets`; from its cache where they are in it."""

from pathlib import Path
from typing import TYPE_CHECKING

from nmg.errors import UserError

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
    try:
        return load_dataset(
            repository,
            configuration or None,
            split=split or "train",
            download_config=DownloadConfig(max_retries=1),
        )
    except ConnectionError as error:
        problem = "cannot be reached, and is not in the cache of `datasets`; is there a network?"
        raise UserError(f"{path}: {problem} ({_first_line(error)})") from error
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise UserError(f"{path}: cannot be loaded from the hub: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
