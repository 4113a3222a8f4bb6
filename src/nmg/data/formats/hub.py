"""Loads data sets of the Hugging Face hub by name, with the library `datasets` or from its cache."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmg.base.errors import UserError
from nmg.base.hub import first_line, is_reachable

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

HUB = "hub:"
"""Prefix of data set names: hub:OWNER/NAME@SPLIT or hub:OWNER/NAME:CONFIGURATION@SPLIT. The default split is
`train`."""
STREAM = "stream:"
"""Prefix of data sets that are not downloaded as a whole: stream:OWNER/NAME@SPLIT, or @SPLIT[:N] for N records."""
_FIRST_RECORDS = re.compile(r"([^\[\]%]+?)(?:\[:(\d+)\])?")
"""Pattern of SPLIT and SPLIT[:N]."""


def open_hub(path: Path) -> "Dataset":
    """Return the memory-mapped rows of a data set.

    Raises UserError if the data set, configuration or split does not exist. Raises UserError as well if the hub is
    unreachable and the data set is not in the cache of `datasets`.
    """
    repository, configuration, split = _parts(path, HUB)
    return _load(path, repository, configuration, split, streaming=False)


def open_stream(path: Path) -> "IterableDataset":
    """Return the records of a data set that is read from the hub while it is iterated over.

    Raises UserError like `open_hub`, and for a part of a split other than SPLIT[:N].
    """
    repository, configuration, split = _parts(path, STREAM)
    found = _FIRST_RECORDS.fullmatch(split)
    if found is None:
        raise UserError(f"{path}: a stream can only be cut after N records: write {STREAM}OWNER/NAME@SPLIT[:N]")
    rows = _load(path, repository, configuration, found[1], streaming=True)
    return rows if found[2] is None else rows.take(int(found[2]))


def _parts(path: Path, prefix: str) -> tuple[str, str | None, str]:
    """Return repository, configuration and split of an address that starts with `prefix`."""
    name, _, split = str(path).removeprefix(prefix).partition("@")
    repository, _, configuration = name.partition(":")
    return repository, configuration or None, split or "train"


def _load(path: Path, repository: str, configuration: str | None, split: str, *, streaming: bool) -> Any:
    """Call `datasets.load_dataset` with errors of `open_hub`. `path` is the address, for messages."""
    from datasets import DownloadConfig, load_dataset
    from datasets.exceptions import DatasetsError
    from datasets.utils import disable_progress_bars

    disable_progress_bars()
    is_online = _is_online(path, repository)
    try:
        with nullcontext() if is_online else _offline():
            return load_dataset(
                repository,
                configuration,
                split=split,
                streaming=streaming,
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
